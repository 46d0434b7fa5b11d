"""``--set KEY=VALUE``: one grammar for every command that changes a profile.

Several values may follow one ``--set``, and the user may repeat ``--set``. A profile that the user typed after them
counts as the profile.
"""

from __future__ import annotations

import argparse


def add_set_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--set``."""
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change a value of the profile, such as train.batch_size=64; several values may follow",
    )


def overrides_of(arguments: argparse.Namespace, positional: str = "profile") -> list[str]:
    """Return all values of ``--set`` in the order they were typed.

    Parameters
    ----------
    arguments : Namespace
        If its positional argument is missing because the user typed it after ``--set``, this function fills it in.
    positional : str
        Name of the positional argument.
    """
    overrides = [text for group in arguments.overrides for text in group]
    if getattr(arguments, positional, None) is None and overrides and "=" not in overrides[-1]:
        setattr(arguments, positional, overrides.pop())
    return overrides
