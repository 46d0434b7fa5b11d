"""Make a typed profile, or a list of all problems, from a YAML file, its bases, ``--set`` and the environment.

The stages, in order: read the text, merge it over the file that it ``extends``, apply ``--set``, expand ``${NAME}``
where that is allowed, refuse credentials, validate. Rules that need two fields, the disk or the site are in
``check.py``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hpctrain.errors import ProfileError
from hpctrain.profile.credentials import find_credentials
from hpctrain.profile.document import Document, KeyPath, Place, PlacedProblem, sort_problems
from hpctrain.profile.explain import explain
from hpctrain.profile.families import class_for
from hpctrain.profile.reading import fill_empty_sections, read_with_bases
from hpctrain.profile.schema import Profile
from hpctrain.profile.values import document_of
from hpctrain.profile.variables import VARIABLE
from hpctrain.profile.yaml_text import parse_value, read_scalar

ENVIRONMENT_FIELDS = (
    ("data", "files"),
    ("data", "from_run"),
    ("launch", "runs_dir"),
    ("model", "weights"),
    ("train", "init_from"),
)
"""Keys in which ``${NAME}`` is replaced: paths differ between machines, the science must not. ``data.stage`` is absent,
because it is a path of the compute node; the job replaces its variables there (:mod:`hpctrain.train.staging`)."""


Source = str | Path | Mapping[str, Any] | Profile
"""A YAML file, the same as plain values, or a profile that is loaded already."""


def load_profile(path: Source, overrides: Sequence[str] = ()) -> Profile:
    """Return the profile that a YAML file describes.

    Parameters
    ----------
    path : str, Path, mapping or Profile
        The file; or what it would hold, as plain values; or a profile, to change it.
    overrides : sequence of str
        ``a.b=value`` each, the value in YAML, such as ``train.batch_size=64``.

    Raises
    ------
    ProfileError
        The file, its bases or the overrides are wrong; the message lists all problems with their lines.
    """
    document = read_document(path, overrides)
    profile, _ = validate(document)
    if profile is None or document.problems:
        raise ProfileError(document.source, sort_problems(document.problems))
    return profile


def dump_profile(profile: Profile) -> str:
    """Return the resolved profile as YAML from which :func:`load_profile` makes an equal profile on any machine."""
    data = plain_values(profile)
    for path in ENVIRONMENT_FIELDS:
        _replace_texts(data, path, lambda text, _: text.replace("$", "$$"))
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def plain_values(profile: Profile) -> dict[str, Any]:
    """Return the values of a profile from which an equal one can be made."""
    data = profile.model_dump(mode="json")
    for *around, last in profile.data.unwritten_keys():
        section = data["data"]
        for key in around:
            section = section[key]
        del section[last]
    return data


def read_document(path: Source, overrides: Sequence[str] = ()) -> Document:
    """Return the plain data of a profile and overrides, ready to validate.

    Parameters
    ----------
    path : str, Path, mapping or Profile
        As of :func:`load_profile`. Problems of a mapping or a Profile have no line numbers.
    overrides : sequence of str
        ``a.b=value`` each.

    Raises
    ------
    ProfileError
        A file cannot be read, is not YAML, or extends itself. Later stages would only repeat the same problem.
    """
    if isinstance(path, Profile):
        document = Document(path.name, plain_values(path))
    elif isinstance(path, Mapping):
        document = document_of(path)
    else:
        document = read_with_bases(str(path), [])
    for override in overrides:
        _override(document, override)
    if isinstance(path, Profile):
        return document  # its variables were replaced when it was loaded
    for path_in_data in ENVIRONMENT_FIELDS:
        _replace_texts(document.data, path_in_data, lambda text, at: _expand(text, at, document))
    return document


def validate(document: Document) -> tuple[Profile | None, set[KeyPath]]:
    """Validate the data, and add the problems to ``document.problems``.

    Returns
    -------
    profile : Profile or None
        None if a value is wrong.
    faulty : set of tuple
        Key paths at fault.
    """
    document.problems += find_credentials(document)
    model, unknown_family = class_for(document.data)
    if unknown_family is not None:
        document.problems.append(document.problem(("model", "family"), unknown_family))
        document.unknown.add(("model",))
    fill_empty_sections(document.data, model)
    try:
        profile = model.model_validate(document.data)
        return (profile if unknown_family is None else None), document.unknown
    except ValidationError as error:
        problems, faulty = explain(error, document, model)
        document.problems += problems
        return None, faulty | document.unknown


def _override(document: Document, override: str) -> None:
    """Apply one ``a.b=value``. The validation reports unknown keys, because it knows the near names."""

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
        complain("can only be set in the file itself")
        return
    target: Any = document.data
    for depth, key in enumerate(path):
        here = path[:depth]
        if isinstance(target, list):
            if not (isinstance(key, str) and key.isdecimal() and int(key) < len(target)):
                complain(f"there is no entry {key}; {'.'.join(map(str, here))} has {len(target)}, counted from 0")
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
    """Replace the text, or the texts of the list, at `path`. The validation reports values of other types."""
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
    """Replace ``${NAME}`` by its value in the environment; ``$$`` is a dollar sign."""

    def value_of(match: re.Match[str]) -> str:
        name = match["name"]
        if match["escaped"]:
            return "$"
        if name is not None and os.environ.get(name):
            return os.environ[name]
        if name is None:
            message = f"'$' without braces; write ${{{match['bare'] or 'NAME'}}}, or $$ for a dollar sign"
        else:
            state = "empty" if name in os.environ else "not set"
            message = f"${{{name}}} is {state} in the environment; export {name}, or write the path out"
        document.problems.append(document.problem(path, message))
        document.unknown.add(path)
        return match[0]

    return VARIABLE.sub(value_of, text)


class _Dumper(yaml.SafeDumper):
    """Put quotes around every text that YAML 1.1 or our reader could read as another type."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = None if isinstance(read_scalar(text), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
