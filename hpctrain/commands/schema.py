"""Write the JSON Schema of profiles, from which editors complete keys and show their meaning.

The shipped profiles name the schema in their first line. Write it beside your own profile for the same help:
``hpctrain schema --out schema.json``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hpctrain.errors import Problem, ProfileError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain schema``."""
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to this file instead of standard output")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--markdown", action="store_true", help="write a page to read instead (docs/profile.md)")
    what.add_argument("--validation", action="store_true", help="write the schema of results/validation.json instead")


def run(args: argparse.Namespace) -> int:
    """Write the schema."""
    from hpctrain.profile.describe import profile_json_schema_text, profile_markdown

    if args.validation:
        from hpctrain.validation.schema import validation_schema_text

        text = validation_schema_text()
    else:
        text = profile_markdown() if args.markdown else profile_json_schema_text()
    if args.out is None:
        print(text, end="")
        return 0
    try:
        args.out.write_text(text, encoding="utf-8")
    except OSError as error:
        message = f"cannot be written: {error.strerror}"
        raise ProfileError("command line", [Problem(f"--out {args.out}", message)]) from error
    print(f"wrote {args.out}")
    return 0
