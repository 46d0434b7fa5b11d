"""Print the batch script and the files that a submit would write; touches nothing, needs no Slurm."""

from __future__ import annotations

import argparse

from hpctrain.commands.submit import add_profile_arguments, render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain render``."""
    add_profile_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Render for Slurm, unless told otherwise: what a laptop would do by itself is of no interest here."""
    arguments.cluster = arguments.cluster or "slurm"
    print(render(arguments))
    return 0
