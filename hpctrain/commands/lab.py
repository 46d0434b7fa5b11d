"""A private Slurm cluster of pretend nodes on this machine: ``slurm/lab`` of the checkout, or of the wheel.

hpctrain lab run -- hpc-submit --wait quickstart.yaml     one command in a cluster of its own
hpctrain lab up /tmp/lab                                  start a cluster that stays
eval "$(hpctrain lab env /tmp/lab)"                       use it in this shell
hpctrain lab down /tmp/lab                                stop it
hpctrain lab up --help                                    number of nodes, cores, GPUs, and more

It needs Slurm's and munge's programs on this machine, not root, and no service of theirs.
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
    """Become the lab's own program, which needs nothing of hpctrain."""
    command = [sys.executable, str(shipped("slurm/lab")), *(args.arguments or ["--help"])]
    sys.stdout.flush()
    os.execve(command[0], command, {**os.environ, "LAB_PROGRAM": "hpctrain lab"})
