"""Check a profile, then print the batch script and the files that a submission would write.

render writes nothing and needs no Slurm. If the profile has problems, render prints them to standard error as
``hpctrain check`` does, prints no script, and exits with code 2.
"""

from __future__ import annotations

import argparse

from hpctrain.commands.submit import add_profile_arguments, dry_run
from hpctrain.launch.targets import with_a_script


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain render``."""
    add_profile_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Render for a target that has a script to show, unless ``--cluster`` says otherwise."""
    arguments.cluster = arguments.cluster or with_a_script()
    return dry_run(arguments)
