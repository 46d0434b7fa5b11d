"""A profile that Python code holds as plain values, instead of a YAML file; and changes of it as ``key=value``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from hpctrain.errors import Problem
from hpctrain.profile.document import Document, KeyPath, Place

_NAME = "profile"
"""What problems of plain values are listed under: they have no file."""


def document_of(values: Mapping[str, Any]) -> Document:
    """Return the document of a mapping that holds what the YAML file would hold.

    Parameters
    ----------
    values : mapping
        Mappings, sequences and scalars; paths and NumPy's numbers count as text and numbers.
    """
    document = Document(str(values.get("name") or _NAME))
    document.data = _plain(values, (), document)
    if document.data.pop("extends", None) is not None:
        message = "works in a file only; give that file itself, and the changes with set={...}"
        document.problems.append(Problem("extends", message))
    return document


def _plain(value: Any, path: KeyPath, document: Document) -> Any:
    if path:
        document.places[path] = Place(document.source)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, (*path, str(key)), document) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item, (*path, index), document) for index, item in enumerate(value)]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, PurePath):
        return str(value)
    return value.tolist() if type(value).__module__ == "numpy" else value


def overrides_of(changes: Mapping[str, Any] | Sequence[str]) -> list[str]:
    """Return changes of a profile as ``key=value`` each, the value in YAML.

    Parameters
    ----------
    changes : mapping or sequence of str
        ``{"train.seed": 7}``, ``{"train": {"seed": 7}}`` or ``["train.seed=7"]``.

    Examples
    --------
    >>> overrides_of({"train": {"seed": 7}, "data.files": ["a.h5"]})
    ['train.seed=7', 'data.files=["a.h5"]']
    """
    if isinstance(changes, str):
        return [changes]
    if not isinstance(changes, Mapping):
        return list(changes)
    return [text for key, value in changes.items() for text in _override(str(key), value)]


def _override(key: str, value: Any) -> list[str]:
    if isinstance(value, Mapping) and value:
        return [text for inner, item in value.items() for text in _override(f"{key}.{inner}", item)]
    return [f"{key}={json.dumps(value, default=_scalar)}"]
