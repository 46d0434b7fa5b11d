"""Turns the sources that the user named (files, folders, globs) into a sorted list of files of one survey."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpctrain.errors import DataError

OTHER_SURVEYS = "`hpctrain ingest fits FILE --preview` shows what is in a file of any survey"
"""Advice for files of a survey that the user did not name."""

GLOB_CHARACTERS = frozenset("*?[")


@dataclass
class Sources:
    """Files to read, and skipped files with the reason."""

    paths: list[Path] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def find_sources(sources: Sequence[str], patterns: Sequence[str], not_spectra: Sequence[str] = ()) -> Sources:
    """Find the files to read.

    Parameters
    ----------
    sources : sequence of str
        Files (taken whatever their name), folders (searched to any depth for `patterns`) or glob patterns with
        ``*``, ``?``, ``[...]`` and ``**``.
    patterns : sequence of str
        Names of the survey's files, such as ``spec-*.fits``.
    not_spectra : sequence of str
        Names that globs and folders catch and that are known to hold something else.

    Returns
    -------
    Sources
        Each file once, sorted by path, so that the output does not depend on the file system's order.

    Raises
    ------
    DataError
        A named file or folder does not exist, or nothing was found; all such problems at once.
    """
    found: dict[Path, Path] = {}
    skipped: dict[str, str] = {}
    problems = []
    endings = tuple({pattern.rpartition("*")[2] for pattern in patterns})
    for source in sources:
        candidates, from_folder = _expand(source)
        if not candidates:
            problems.append(f"{source}: {'no such file or folder' if not _is_glob(source) else 'matches no file'}")
        for path in candidates:
            explicit = not from_folder and not _is_glob(source)
            if from_folder and not _matches(path, patterns):
                if path.name.endswith(endings) and not _matches(path, not_spectra):
                    skipped[str(path)] = f"its name is not {' or '.join(patterns)}; name the file itself to read it"
                continue
            if not explicit and _matches(path, not_spectra):
                skipped[str(path)] = "not a file of spectra, by its name"
                continue
            found.setdefault(path.resolve(), path)
        if candidates and from_folder and not found:
            problems.append(f"{source}: no file below it is named {' or '.join(patterns)}")
    paths = sorted(found.values(), key=str)
    if problems or not paths:
        raise DataError(
            "\n".join(["there are no files to read:" if not paths else "files that are missing:", *_indent(problems)])
        )
    return Sources(paths, skipped)


def _expand(source: str) -> tuple[list[Path], bool]:
    path = Path(source).expanduser()
    if path.is_dir():
        files = (Path(folder) / name for folder, _, names in os.walk(path, followlinks=True) for name in names)
        return sorted(files) or [path], True
    if path.exists():
        return [path], False
    if _is_glob(source):
        matches = (Path(match) for match in glob.glob(str(path), recursive=True))
        return sorted(match for match in matches if match.is_file()), False
    return [], False


def _is_glob(source: str) -> bool:
    return bool(GLOB_CHARACTERS & set(source)) and not os.path.exists(source)


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path.name, pattern) for pattern in patterns)


def _indent(problems: Sequence[str]) -> list[str]:
    return [f"  {problem}" for problem in problems] or ["  no file matches"]
