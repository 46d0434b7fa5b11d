"""Refuse passwords, tokens and keys in a profile: every run directory and report has a copy of it.

Users set credentials in the environment (``WANDB_API_KEY``, ``MLFLOW_TRACKING_TOKEN``) or by the tool's own login.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hpctrain.credentials.known import known_secrets
from hpctrain.credentials.patterns import FORMS, is_secret_key, what_secret
from hpctrain.errors import Problem
from hpctrain.profile.document import Document, KeyPath

HIDDEN = "(hidden)"


def find_credentials(document: Document) -> Iterator[Problem]:
    """Yield a problem for each key or value of a document that looks like a credential.

    The problem does not show the value. The function also marks the value as faulty, so that no other message shows it.
    """
    known = known_secrets()
    for path, value in _walk(document.data, ()):
        if path and isinstance(path[-1], str) and is_secret_key(path[-1]) and not isinstance(value, dict):
            found = "names a credential"
        elif isinstance(value, str) and (kind := _kind_of(value, known)):
            found = f"holds {kind}"
        else:
            continue
        document.unknown.add(path)
        advice = "remove it; credentials come from the environment, and this file is copied into every run directory"
        yield document.problem(path, f"{found}; {advice}")


def _kind_of(value: str, known: Mapping[str, str]) -> str | None:
    """Return what credential a value holds, in words, or None."""
    if name := next((name for secret, name in known.items() if secret in value), None):
        return f"the value of the variable {name}"
    kind = what_secret(value)
    if kind is None:
        small = value.lower()
        found = (form for form in FORMS if any(hint in small for hint in form.hints) and form.pattern.search(value))
        kind = next((form.kind for form in found), None)
    return kind and f"what looks like {kind}"


def _walk(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _walk(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _walk(child, (*path, index))
