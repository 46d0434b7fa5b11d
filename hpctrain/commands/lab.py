"""Run a private Slurm cluster of pretend nodes on this machine: ``slurm/lab`` of the checkout, or of the wheel.

hpctrain lab run -- hpc-submit --wait quickstart.yaml     run one command in a cluster of its own
hpctrain lab up /tmp/lab                                  start a cluster that keeps running
eval "$(hpctrain lab env /tmp/lab)"                       use it in this shell
hpctrain lab down /tmp/lab                                stop it
hpctrain lab up --help                                    options: number of nodes, cores, GPUs, and more

The lab needs the programs of Slurm and munge on this machine. It needs neither root nor their system services.
"""

from __future__ import annotations

import argparse
import os
import sys

from hpctrain.shipped import shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain lab``."""
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="up|env|run|down ...", help="see above")


def run(args: argparse.Namespace) -> int:
    """Replace this process by the lab's own program, which does not import hpctrain."""
    command = [sys.executable, str(shipped("slurm/lab")), *(args.arguments or ["--help"])]
    sys.stdout.flush()
    os.execve(command[0], command, {**os.environ, "LAB_PROGRAM": "hpctrain lab"})
