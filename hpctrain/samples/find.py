"""Find the files of a data section, and say which ones are missing."""

from __future__ import annotations

import os
from pathlib import Path

from hpctrain.errors import DataError
from hpctrain.profile.files import is_pattern, matching_files


def find_files(patterns: list[str], base: Path) -> list[Path]:
    """Return the files that match names and glob patterns, each once, sorted within a pattern.

    Raises
    ------
    DataError
        Patterns match nothing; the message names all of them.
    """
    found: dict[Path, Path] = {}
    problems = []
    for pattern in patterns:
        matches = matching_files(pattern, base)
        if not matches and is_pattern(pattern):
            problems.append(f"{base / Path(pattern).expanduser()}: no file matches (data.files)")
        for path in matches or ([] if is_pattern(pattern) else [base / Path(pattern).expanduser()]):
            try:
                os.stat(path)
            except FileNotFoundError:
                problems.append(f"{path}: no such file (data.files)")
            except OSError as error:  # a parent folder without permission
                problems.append(f"{path}: {(error.strerror or str(error)).lower()} (data.files)")
            found.setdefault(path.resolve(), path)
    if problems:
        raise DataError("\n".join(problems))
    return list(found.values())
