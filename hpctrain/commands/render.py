"""Check a profile, then print the batch script and the files that a submit would write.

Touches nothing and needs no Slurm. Problems go to standard error with exit code 2, as ``hpctrain check`` reports them,
and then no script is printed.
"""

from __future__ import annotations

import argparse

from hpctrain.commands.submit import add_profile_arguments, dry_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain render``."""
    add_profile_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Render for Slurm unless ``--cluster`` says otherwise: a local run has no script to show."""
    arguments.cluster = arguments.cluster or "slurm"
    return dry_run(arguments)
