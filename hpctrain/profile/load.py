"""One YAML file, its bases, ``--set`` overrides and the environment become a typed profile, or all that is wrong.

The stations, in order: read the text, lay it over what it ``extends``, apply ``--set``, expand ``${NAME}`` where that
is allowed, refuse credentials, validate. Rules that need two fields, the disk or the site are in ``check.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hpctrain.errors import Problem, ProfileError
from hpctrain.profile.credentials import find_credentials
from hpctrain.profile.document import (
    Document,
    KeyPath,
    Place,
    PlacedProblem,
    kind_of,
    parse_value,
    parse_yaml,
    read_scalar,
)
from hpctrain.profile.explain import explain
from hpctrain.profile.near import nearest
from hpctrain.profile.schema import Profile, Section

MAX_BYTES = 1 << 20
"""A profile is a few kilobytes; more is another file, such as the spectra themselves."""

ENVIRONMENT_FIELDS = (("data", "files"), ("launch", "runs_dir"), ("train", "init_from"))
"""Where ``${NAME}`` is replaced; paths differ between machines, the science must not."""

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)?)")


def load_profile(path: str | Path, overrides: Sequence[str] = ()) -> Profile:
    """Return the profile a YAML file describes.

    Parameters
    ----------
    path : str or Path
        The file.
    overrides : sequence of str
        ``a.b=value`` each, the value in YAML, such as ``train.batch_size=64``.

    Raises
    ------
    ProfileError
        All that is wrong with the file, its bases and the overrides, with lines.
    """
    document = read_document(path, overrides)
    profile, _ = validate(document)
    if profile is None or document.problems:
        raise ProfileError(document.source, sort_problems(document.problems))
    return profile


def dump_profile(profile: Profile) -> str:
    """Return the resolved profile as YAML that :func:`load_profile` reads back equal, on any machine."""
    data = profile.model_dump(mode="json")
    if "mask" not in profile.data.columns.model_fields_set:
        del data["data"]["columns"]["mask"]  # written out, it would demand a dataset that may be absent
    for path in ENVIRONMENT_FIELDS:
        _replace_texts(data, path, lambda text, _: text.replace("$", "$$"))
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def read_document(path: str | Path, overrides: Sequence[str] = ()) -> Document:
    """Return the plain data of a file, its bases and overrides, ready to validate.

    Raises
    ------
    ProfileError
        A file cannot be read, is not YAML, or extends itself; later stations would only repeat that.
    """
    document = _read_with_bases(str(path), [])
    for override in overrides:
        _override(document, override)
    for path_in_data in ENVIRONMENT_FIELDS:
        _replace_texts(document.data, path_in_data, lambda text, at: _expand(text, at, document))
    return document


def read_plain(path: str | Path) -> Document:
    """Return the plain data of one YAML file without bases, overrides or environment, credentials refused.

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


def validate(document: Document) -> tuple[Profile | None, set[KeyPath]]:
    """Validate the data, adding what is wrong to ``document.problems``.

    Returns
    -------
    profile : Profile or None
        None where a value is wrong.
    faulty : set of tuple
        Key paths at fault.
    """
    document.problems += find_credentials(document)
    _fill_empty_sections(document.data, Profile)
    try:
        return Profile.model_validate(document.data), document.unknown
    except ValidationError as error:
        problems, faulty = explain(error, document)
        document.problems += problems
        return None, faulty | document.unknown


def _read_with_bases(name: str, chain: list[Path]) -> Document:
    """Read a file and lay it over the file it extends, which may extend another."""
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
        base = _read_with_bases(base_path, chain)
    except ProfileError as error:
        raise _as_seen_from(error, name, where.line) from error
    for section in (base.data, document.data):
        _fill_empty_sections(section, Profile)
    # The problems of the base are told from here on, under the name of the file the user gave.
    problems = [*document.problems, *(_in_file(problem, base.source) for problem in base.problems)]
    merged = Document(document.source, base.data, base.places, problems)
    merged.lay_over(document)
    return merged


def _in_file(problem: Problem, source: str) -> Problem:
    if isinstance(problem, PlacedProblem) and problem.source is not None:
        return problem
    return PlacedProblem(problem.where, problem.message, problem.line, source)


def _as_seen_from(error: ProfileError, name: str, line: int | None) -> ProfileError:
    """Tell the problems of a base under the name of the file that extends it."""
    if len(error.problems) == 1 and error.problems[0].message.startswith(_CANNOT_READ):
        return ProfileError(name, [Problem("extends", f"'{error.source}' {error.problems[0].message}", line)])
    return ProfileError(name, [_in_file(problem, error.source) for problem in error.problems])


_CANNOT_READ = ("does not exist", "is a folder", "cannot be read", "is larger", "is not text", "is not UTF-8")


def _read_text(path: Path, name: str) -> str:
    """Return the text of a file, or say what the user gave instead of a profile."""
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
    """Name the most similar file beside a missing one, or the folder that is missing."""
    if not path.parent.is_dir():
        return f"; there is no folder '{path.parent}'"
    near = nearest(path.name, [entry.name for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")])
    return "" if near is None else f"; did you mean '{path.parent / near}'?"


def _fill_empty_sections(data: dict[str, Any], model: type[Section]) -> None:
    """Read ``train:`` with nothing below it as a section whose keys are all left at their defaults."""
    for key, field in model.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, Section)) or key not in data:
            continue
        if data[key] is None:
            data[key] = {}
        if isinstance(data[key], dict):
            _fill_empty_sections(data[key], field.annotation)


def _override(document: Document, override: str) -> None:
    """Apply one ``a.b=value``; an unknown key is left to the validation, which knows the near names."""

    def complain(message: str) -> None:
        document.problems.append(PlacedProblem(keys, message, None, "--set"))

    keys, equals, text = override.partition("=")
    keys = keys.strip()
    path: KeyPath = tuple(keys.split("."))
    if not equals or not all(path):
        keys = override
        complain("is not of the form key=value, such as train.batch_size=64")
        return
    try:
        value = parse_value(text)
    except ValueError as error:
        complain(f"the value {error}")
        return
    if path == ("extends",):
        complain("can only stand in the file itself")
        return
    target: Any = document.data
    for depth, key in enumerate(path):
        here = path[:depth]
        if isinstance(target, list):
            if not (isinstance(key, str) and key.isdecimal() and int(key) < len(target)):
                complain(f"'{key}' is not a position in {'.'.join(map(str, here))}, which has 0 to {len(target) - 1}")
                return
            key = int(key)
            path = (*here, key, *path[depth + 1 :])
        elif not isinstance(target, dict):
            complain(f"{'.'.join(map(str, here))} is a single value and has no keys")
            return
        if depth == len(path) - 1:
            target[key] = value
        elif isinstance(target, dict) and target.get(key) is None:
            target[key] = {}
        target = target[key]
    document.forget(path)
    for depth in range(1, len(path)):
        document.places.setdefault(path[:depth], Place("--set"))
    document.places[path] = Place("--set")


def _replace_texts(data: Any, path: KeyPath, replace: Callable[[str, KeyPath], str]) -> None:
    """Replace the text, or the texts of the list, at `path`; anything else is left to the validation."""
    for key in path[:-1]:
        data = data.get(key) if isinstance(data, dict) else None
    value = data.get(path[-1]) if isinstance(data, dict) else None
    if isinstance(value, str):
        data[path[-1]] = replace(value, path)
    elif isinstance(value, list):
        data[path[-1]] = [
            replace(item, (*path, index)) if isinstance(item, str) else item for index, item in enumerate(value)
        ]


def _expand(text: str, path: KeyPath, document: Document) -> str:
    """Put the environment's values for ``${NAME}``; ``$$`` is a dollar sign."""

    def value_of(match: re.Match[str]) -> str:
        name = match["name"]
        if match["escaped"]:
            return "$"
        if name is not None and os.environ.get(name):
            return os.environ[name]
        if name is None:
            message = f"'$' alone; write ${{{match['bare'] or 'NAME'}}}, or $$ for a dollar sign"
        else:
            state = "empty" if name in os.environ else "not set"
            message = f"${{{name}}} is {state} in the environment; export {name}, or write the path out"
        document.problems.append(document.problem(path, message))
        document.unknown.add(path)
        return match[0]

    return _VARIABLE.sub(value_of, text)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or our reader could take for something else."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if isinstance(read_scalar(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def sort_problems(problems: list[Problem]) -> list[Problem]:
    """Return the problems of the file itself by line, then those of its bases, then those of ``--set``."""

    def key(problem: Problem) -> tuple[str, int]:
        return getattr(problem, "source", None) or "", problem.line or 0

    ordered = sorted(problems, key=key)
    return [p for p in ordered if key(p)[0] != "--set"] + [p for p in ordered if key(p)[0] == "--set"]


def iterate_bases(document: Document) -> Iterator[str]:
    """Yield the files a document was read from, the named one first."""
    yield from dict.fromkeys([document.source, *(place.source for place in document.places.values())])
