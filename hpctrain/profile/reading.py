"""Read YAML files, and merge each over the file that it extends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hpctrain.errors import Problem, ProfileError
from hpctrain.profile.credentials import find_credentials
from hpctrain.profile.document import Document, PlacedProblem, kind_of
from hpctrain.profile.families import class_for
from hpctrain.profile.near import nearest
from hpctrain.profile.sections.base import Section
from hpctrain.profile.yaml_text import parse_yaml

MAX_BYTES = 1 << 20
"""Largest size of a profile. A profile is a few kilobytes; a larger file is something else, such as the spectra."""


def read_plain(path: str | Path) -> Document:
    """Return the plain data of one YAML file without bases, overrides or environment; refuse credentials.

    Raises
    ------
    ProfileError
        The file cannot be read or is not YAML.
    """
    document = parse_yaml(_read_text(Path(path), str(path)), str(path))
    if document.problems and not document.data:
        raise ProfileError(document.source, document.problems)
    document.problems += find_credentials(document)
    return document


def read_with_bases(name: str, chain: list[Path]) -> Document:
    """Read a file and merge it over the file that it extends, which may extend another."""
    path = Path(name)
    document = parse_yaml(_read_text(path, name), name)
    if document.problems and not document.data:
        raise ProfileError(name, document.problems)
    if "extends" not in document.data:
        return document
    base_name = document.data.pop("extends")
    where = document.problem(("extends",), "")
    document.forget(("extends",))
    if not isinstance(base_name, str) or not base_name:
        message = f"found {kind_of(base_name)}; must be the name of one YAML file, relative to this one"
        raise ProfileError(name, [*document.problems, Problem("extends", message, where.line)])
    chain = [*chain, path.resolve()]
    base_path = os.path.normpath(path.parent / base_name)
    if Path(base_path).resolve() in chain:
        message = f"'{base_name}' extends this file in turn; a file cannot be its own base"
        raise ProfileError(name, [Problem("extends", message, where.line)])
    try:
        base = read_with_bases(base_path, chain)
    except ProfileError as error:
        raise _as_seen_from(error, name, where.line) from error
    for section in (base.data, document.data):
        fill_empty_sections(section, class_for({**base.data, **document.data})[0])
    # From here on, report problems of the base under the name of the file that the user gave.
    problems = [*document.problems, *(_in_file(problem, base.source) for problem in base.problems)]
    merged = Document(document.source, base.data, base.places, problems, base.unknown | document.unknown)
    merged.lay_over(document)
    return merged


def _in_file(problem: Problem, source: str) -> Problem:
    if isinstance(problem, PlacedProblem) and problem.source is not None:
        return problem
    return PlacedProblem(problem.where, problem.message, problem.line, source)


def _as_seen_from(error: ProfileError, name: str, line: int | None) -> ProfileError:
    """Report the problems of a base under the name of the file that extends it."""
    if len(error.problems) == 1 and error.problems[0].message.startswith(_CANNOT_READ):
        return ProfileError(name, [Problem("extends", f"'{error.source}' {error.problems[0].message}", line)])
    return ProfileError(name, [_in_file(problem, error.source) for problem in error.problems])


_CANNOT_READ = ("does not exist", "is a folder", "cannot be read", "is larger", "is not text", "is not UTF-8")


def _read_text(path: Path, name: str) -> str:
    """Return the text of a file; raise an error that says why the file cannot be a profile."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ProfileError(name, [Problem("", f"does not exist{_near_files(path)}")]) from None
    except IsADirectoryError:
        found = sorted(entry.name for entry in path.iterdir() if entry.suffix in (".yaml", ".yml"))
        inside = f"; it holds {', '.join(found[:8])}" if found else ""
        raise ProfileError(name, [Problem("", f"is a folder, not a profile{inside}")]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProfileError(name, [Problem("", f"cannot be read: {reason}")]) from None
    if len(content) > MAX_BYTES:
        raise ProfileError(name, [Problem("", "is larger than 1 MiB; a profile is a short YAML text")])
    if b"\0" in content:
        raise ProfileError(name, [Problem("", "is not text; a profile is a short YAML text in UTF-8")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        message = "is not UTF-8 text; save it as UTF-8 (iconv -f latin1 -t utf-8)"
        raise ProfileError(name, [Problem("", message, line)]) from None


def _near_files(path: Path) -> str:
    """Return a hint that names the most similar file in the same folder, or the missing folder."""
    if not path.parent.is_dir():
        return f"; there is no folder '{path.parent}'"
    names = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml"))
    near = next((name for name in names if Path(name).stem == path.name), None) or nearest(path.name, names)
    if near is None and names:
        return f"; in '{path.parent}' there is {', '.join(names[:8])}"
    return "" if near is None else f"; did you mean '{path.parent / near}'?"


def fill_empty_sections(data: dict[str, Any], model: type[Section]) -> None:
    """Treat ``train:`` without keys below it as a section in which all keys have their defaults."""
    for key, field in model.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, Section)) or key not in data:
            continue
        if data[key] is None:
            data[key] = {}
        if isinstance(data[key], dict):
            fill_empty_sections(data[key], field.annotation)
