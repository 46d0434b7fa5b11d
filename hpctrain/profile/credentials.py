"""Passwords, tokens and keys have no place in a profile: it is copied into every run directory and report.

They come from the environment (``WANDB_API_KEY``, ``MLFLOW_TRACKING_TOKEN``) or from the tool's own login.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hpctrain.errors import Problem
from hpctrain.profile.document import Document, KeyPath

HIDDEN = "(hidden)"

_SECRET_KEY = re.compile(
    r"(^|_)(passw(or)?d|passwd|pwd|passphrase|secrets?|credentials?|tokens?|api_?keys?|access_?keys?|secret_?keys?"
    r"|private_?keys?|auth|bearer|apikey)($|_)"
)
_SECRET_VALUES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("an AWS access key", re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b")),
    ("a GitHub token", re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{16,}")),
    ("a Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{20,}")),
    ("an API key", re.compile(r"\b(sk|pk|rk)-[A-Za-z0-9_-]{20,}")),
    ("a Slack token", re.compile(r"\bxox[abposr]-[A-Za-z0-9-]{10,}")),
    ("a Google API key", re.compile(r"\bAIza[0-9A-Za-z_-]{30,}")),
    ("a JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a URL with a password", re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@]*:[^/\s@]+@")),
    ("a W&B API key", re.compile(r"^(local-)?[0-9a-f]{40}$")),
    ("a password or token", re.compile(r"(?i)\b(password|passwd|token|secret|api_?key|authorization)\s*[=:]\s*\S")),
)


def is_secret_key(key: str) -> bool:
    """Tell whether a key names a credential: ``password``, ``wandb_api_key``, ``AWS_SECRET_ACCESS_KEY``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_").replace(".", "_")
    return _SECRET_KEY.search(words) is not None


def is_secret_value(value: str) -> bool:
    """Tell whether a text looks like a credential."""
    return what_secret(value) is not None


def what_secret(value: str) -> str | None:
    """Return what kind of credential a text looks like, or None."""
    return next((name for name, pattern in _SECRET_VALUES if pattern.search(value)), None)


def find_credentials(document: Document) -> Iterator[Problem]:
    """Yield a problem for each key or value of a document that looks like a credential.

    Values are not shown, and marked as known to be wrong, so that no other message shows them.
    """
    for path, value in _walk(document.data, ()):
        if path and isinstance(path[-1], str) and is_secret_key(path[-1]) and not isinstance(value, dict):
            found = "names a credential"
        elif isinstance(value, str) and what_secret(value):
            found = f"holds what looks like {what_secret(value)}"
        else:
            continue
        document.unknown.add(path)
        advice = "remove it; credentials come from the environment, and this file is copied into every run directory"
        yield document.problem(path, f"{found}; {advice}")


def _walk(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _walk(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _walk(child, (*path, index))
