"""Look for passwords, tokens and keys in run directories, studies, pipelines, the registry, or any folder.

hpctrain scan-secrets                      ./runs, ./studies, ./pipelines and ./registry, those that are there
hpctrain scan-secrets runs/quasars         one folder
hpctrain scan-secrets . --skip .git        a whole project, without a folder

The command looks for well-known forms (keys of AWS, Google, W&B, GitHub, GitLab, private keys, passwords in URLs and
many more) and for the values of the variables of this environment whose names say that they are secret. It prints where
they are and never the secret itself. Exit code 7 means that it found some; 4 that some files could not be read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import DataError, GateError, Problem, ProfileError
from hpctrain.terminal import printable

if TYPE_CHECKING:
    from hpctrain.credentials.files import FoundInFile, Scanner

_PLACES = ("runs", "studies", "pipelines", "registry")
_MOST = 10_000
"""Credentials after which the search ends: there is nothing to learn from more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain scan-secrets``."""
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files or folders")
    parser.add_argument(
        "--variable", action="append", default=[], metavar="NAME", help="look for the value of this variable, too"
    )
    parser.add_argument(
        "--skip", action="append", default=[], metavar="PATTERN", help="leave out files and folders of this name"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Look through the files and list what was found."""
    from hpctrain.credentials.files import Scanner
    from hpctrain.credentials.known import known_secrets
    from hpctrain.credentials.scan import Sought

    paths = _paths(arguments.paths)
    secrets = {**known_secrets(), **_named(arguments.variable)}
    scanner = Scanner(Sought.of(secrets), arguments.skip)
    found: list[FoundInFile] = []
    for each in islice(chain.from_iterable(map(scanner.scan, paths)), _MOST):
        found.append(each)
        if not arguments.json:
            print(printable(each.describe()), flush=True)
    if arguments.json:
        facts = {"found": [each.as_dict() for each in found], "unread": scanner.unread}
        print(json.dumps({**facts, "files": scanner.num_files, "bytes": scanner.num_bytes}, indent=2))
    _judge(found, scanner, len(set(secrets.values())), is_quiet=arguments.json)
    return 0


def _paths(given: list[Path]) -> list[Path]:
    if missing := [path for path in given if not path.exists()]:
        problems = [Problem("PATH", f"'{path}' does not exist") for path in missing]
        raise ProfileError("hpctrain scan-secrets", problems)
    paths = given or [Path(name) for name in _PLACES if Path(name).is_dir()]
    if not paths:
        message = f"none of {', '.join(_PLACES)} is in this folder; name the folders to look through"
        raise ProfileError("hpctrain scan-secrets", [Problem("PATH", message)])
    return paths


def _named(names: list[str]) -> dict[str, str]:
    """Return the values of variables that the user names, each with its name."""
    if missing := [name for name in names if not os.environ.get(name)]:
        problems = [Problem("--variable", f"{name} is not set in the environment") for name in missing]
        raise ProfileError("hpctrain scan-secrets", problems)
    return {os.environ[name]: name for name in names}


def _judge(found: list[FoundInFile], scanner: Scanner, num_variables: int, is_quiet: bool) -> None:
    for text in scanner.unread:
        print(printable(f"not read: {text}"), file=sys.stderr)
    looked = f"{scanner.num_files} files, {scanner.num_bytes / 1e6:.1f} MB; {num_variables} variables hold secrets"
    if found:
        files = len({each.path for each in found})
        raise GateError(
            f"{len(found)} credentials in {files} files ({looked})\n"
            "  make each of them invalid where it was made (others may have read it), then remove it from the files"
        )
    if scanner.unread:
        raise DataError(f"{len(scanner.unread)} files were not read, so they may hold credentials ({looked})")
    if not is_quiet:
        print(f"no credentials found ({looked})")
