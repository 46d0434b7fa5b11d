"""Check a profile, then print the batch script and the files that a submission would write.

render writes nothing and needs no Slurm. If the profile has problems, render prints them to standard error as
``hpctrain check`` does, prints no script, and exits with code 2.
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
