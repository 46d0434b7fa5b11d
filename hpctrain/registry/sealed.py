"""Records that check themselves: JSON with its own SHA-256, of which only one spelling is accepted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpctrain.files import read_text
from hpctrain.records import parse_json


def digest_of(value: Any) -> str:
    """Return the SHA-256 of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sealed_text(facts: Mapping[str, Any]) -> str:
    """Return the only accepted text of a record, its checksum included."""
    return json.dumps({**facts, "sha256": digest_of(facts)}, indent=1, sort_keys=True) + "\n"


def read_sealed(path: Path) -> dict[str, Any]:
    """Return a record without its checksum.

    Raises
    ------
    ValueError
        The record is damaged.
    OSError
        The file cannot be read.
    """
    text = read_text(path)
    found = parse_json(text)
    if not isinstance(found, dict):
        raise ValueError("is damaged: it is not a JSON object")
    facts = {name: value for name, value in found.items() if name != "sha256"}
    if text != sealed_text(facts):
        raise ValueError("is damaged, or somebody has changed it: it does not agree with its own SHA-256")
    return facts
