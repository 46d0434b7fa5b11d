"""Find passwords, tokens and keys, which a profile must not contain: every run directory and report has a copy of it.

Users set credentials in the environment (``WANDB_API_KEY``, ``MLFLOW_TRACKING_TOKEN``) or by the tool's own login. In
other text that a run directory keeps, such as uncommitted changes of a project, :func:`hide_secrets` replaces them.
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

_PRIVATE_KEY = r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
_TOKENS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a private key", re.compile(_PRIVATE_KEY, re.DOTALL)),
    ("a password in a URL", re.compile(r"(?<=://)[^/\s:@'\"]{0,200}:[^/\s@'\"]{1,200}(?=@)")),
    ("an AWS access key", re.compile(r"\b(AKIA|ASIA|AIDA|AROA)[0-9A-Z]{12,}\b")),
    ("a GitHub token", re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,})")),
    ("a GitLab token", re.compile(r"\bgl(pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{16,}")),
    ("a Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{16,}")),
    ("an API key", re.compile(r"\b(sk|pk|rk)[-_][A-Za-z0-9_-]{16,}")),
    ("a Slack token", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}")),
    ("a Slack address", re.compile(r"hooks\.slack\.com/services/[A-Za-z0-9/]+")),
    ("a Google API key", re.compile(r"\bAIza[0-9A-Za-z_-]{30,}")),
    ("a Google token", re.compile(r"\bya29\.[0-9A-Za-z_-]{20,}")),
    ("a PyPI token", re.compile(r"\bpypi-[A-Za-z0-9_-]{16,}")),
    ("an npm token", re.compile(r"\bnpm_[A-Za-z0-9]{20,}")),
    ("a JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)?")),
    ("a bearer token", re.compile(r"(?i)\b(bearer|basic|token) [A-Za-z0-9._~+/-]{16,}=*")),
    ("a W&B API key", re.compile(r"(?<=['\"=])(local-)?[0-9a-f]{40}(?![0-9A-Za-z])")),
)
"""Well-known forms of credentials, anywhere in a text."""

_WORD = (
    r"(?:passw(?:or)?d|passwd|pwd|passphrase|secret|credential|token|authorization|bearer"
    r"|(?:api|access|private|auth)[_-]?key)"
)
_ASSIGNED = re.compile(
    rf"""(?ix)
    (?P<before>
      (?<![\w.-]) [\w.-]{{0,60}} {_WORD} s? (?:[_-]\w{{0,40}})? ["']? ["'\]]{{0,2}} \s{{0,20}} (?:[:=]|=>) \s{{0,20}}
    )
    (?: (?P<quote>["'`]) (?P<quoted> (?: \\. | (?!(?P=quote))[^\\\n] ){{1,4000}} ) (?P=quote)
      | (?P<bare> (?!\$) [^\s"'()\[\]{{}}<>,;]{{4,4000}} ) (?= [,;]? [^\S\n]* $ | [^\S\n]+[#&|;-] )
    )
    """,
    re.MULTILINE,
)
"""``password = "..."``, ``export API_TOKEN=...``, ``"secret": "..."``."""
_MAY_ASSIGN = re.compile(_WORD, re.IGNORECASE)
_NO_SECRETS = frozenset(
    ("none", "null", "true", "false", "str", "int", "bytes", "float", "bool", "required", "optional")
)


def is_secret_key(key: str) -> bool:
    """Say whether a key names a credential: ``password``, ``wandb_api_key``, ``AWS_SECRET_ACCESS_KEY``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_").replace(".", "_")
    return _SECRET_KEY.search(words) is not None


def is_secret_value(value: str) -> bool:
    """Say whether a text looks like a credential."""
    return what_secret(value) is not None


def what_secret(value: str) -> str | None:
    """Return the kind of credential that a text looks like, or None."""
    return next((name for name, pattern in _SECRET_VALUES if pattern.search(value)), None)


def hide_secrets(text: str) -> str:
    """Return a text in which a marker replaces every credential and names its kind.

    In doubt the function hides a text, because other people read run directories and reports.

    Parameters
    ----------
    text : str
        Anything: a diff, a command line, a configuration file.
    """
    for kind, pattern in _TOKENS:
        text = pattern.sub(_marker(kind), text)
    return "".join(
        _ASSIGNED.sub(_hide_assigned, line) if _MAY_ASSIGN.search(line) else line
        for line in text.splitlines(keepends=True)
    )


def hide_secrets_in(value: Any) -> Any:
    """Return JSON values with :func:`hide_secrets` applied to every text in them."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, list):
        return [hide_secrets_in(item) for item in value]
    if isinstance(value, dict):
        return {name: hide_secrets_in(item) for name, item in value.items()}
    return value


def _marker(kind: str) -> str:
    return f"[hidden: {kind}]"


def _hide_assigned(found: re.Match[str]) -> str:
    quote, value = found["quote"] or "", found["quoted"] or found["bare"]
    if value.lower() in _NO_SECRETS or value.startswith("[hidden:") or re.fullmatch(r"\$\{?\w+\}?", value):
        return found[0]
    return f"{found['before']}{quote}{_marker('a password or token')}{quote}"


def find_credentials(document: Document) -> Iterator[Problem]:
    """Yield a problem for each key or value of a document that looks like a credential.

    The problem does not show the value. The function also marks the value as faulty, so that no other message shows it.
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
