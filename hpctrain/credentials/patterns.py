"""What passwords, tokens and keys look like: names of keys, well-known forms, and assignments in code."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECRET_KEY = re.compile(
    r"(^|_)(\w*passw(or)?d|pwd|passphrase|secrets?|credentials?|tokens?|api_?keys?|access_?keys?|secret_?keys?"
    r"|account_?keys?|private_?keys?|connection_strings?|auth|bearer|apikey|jwt)($|_)"
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
    # In capitals it is a variable of a shell; a name of another variable after it is no secret.
    (
        "a password or token",
        re.compile(r"\b[A-Z][A-Z0-9_]*(PASSWORD|PASSWD|TOKEN|SECRET|API_?KEY|ACCESS_KEY)=(?![$])\S{6,}"),
    ),
)


@dataclass(frozen=True)
class Form:
    """A well-known form of credentials.

    Parameters
    ----------
    kind : str
        What it is, in words.
    hints : tuple of str
        Texts in small letters, one of which is in every such credential; to look for them is cheap.
    pattern : re.Pattern
        Its group ``before``, if it has one, is no part of the credential.
    """

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]


_PRIVATE_KEY = r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)"
_DSN = (
    r"(?i)(?P<before>\b(?:host|hostaddr|dbname|user|port)=[^\s'\"]+ (?:[^\n]{0,200} )?password=)(?![$\[])[^\s'\"]{3,}"
)
_SIGNATURE = (
    r"(?i)(?P<before>[?&](?:x-(?:amz|goog)-signature|x-amz-security-token|signature|sig)=)"
    r"(?=[a-z0-9%+/=~_-]*\d)[a-z0-9%+/=~_-]{16,}"
)


def _form(kind: str, hints: str, pattern: str, flags: int = 0) -> Form:
    return Form(kind, tuple(hints.split("|")), re.compile(pattern, flags))


FORMS = (
    _form("a private key", "private key-----", _PRIVATE_KEY, re.DOTALL),
    _form("a password in a URL", "://", r"(?<=://)[^/\s:@'\"]{0,200}:(?!\$\{?\w+\}?@)[^/\s@'\"]{1,200}(?=@)"),
    _form("a password of a database", "password=", _DSN),
    _form("a signature in a URL", "sig=|signature=|-token=", _SIGNATURE),
    _form("an AWS access key", "akia|asia|aida|aroa", r"\b(AKIA|ASIA|AIDA|AROA)[0-9A-Z]{12,}\b"),
    _form("an Azure storage key", "accountkey=", r"(?P<before>AccountKey=)[A-Za-z0-9+/]{40,}={0,2}"),
    _form(
        "a GitHub token",
        "ghp_|gho_|ghu_|ghs_|ghr_|github_pat_",
        r"\b(gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,})",
    ),
    _form(
        "a GitLab token",
        "glpat-|gldt-|glrt-|glcbt-|glptt-|glft-|glsoat-",
        r"\bgl(pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{16,}",
    ),
    _form("a Hugging Face token", "hf_", r"\bhf_[A-Za-z0-9]{16,}"),
    _form("an API key", "sk-|sk_|pk-|pk_|rk-|rk_", r"\b(sk|pk|rk)[-_][A-Za-z0-9_-]{16,}"),
    _form("a Slack token", "xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    _form("a Slack address", "hooks.slack.com", r"hooks\.slack\.com/services/[A-Za-z0-9/]+"),
    _form("a Google API key", "aiza", r"\bAIza[0-9A-Za-z_-]{30,}"),
    _form("a Google token", "ya29.", r"\bya29\.[0-9A-Za-z_-]{20,}"),
    _form("a Databricks token", "dapi", r"\bdapi[0-9a-f]{32}\b"),
    _form("a Docker token", "dckr_pat_", r"\bdckr_pat_[A-Za-z0-9_-]{20,}"),
    _form("a PyPI token", "pypi-", r"\bpypi-[A-Za-z0-9_-]{16,}"),
    _form("an npm token", "npm_", r"\bnpm_[A-Za-z0-9]{20,}"),
    _form("a JSON web token", "eyj", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)?"),
    _form(
        "a bearer token",
        "bearer |basic |token ",
        r"(?i)\b(bearer|basic|token) [A-Za-z0-9._~+/-]{16,}=*",
    ),
    _form("a W&B API key", "wandb_v1_", r"\bwandb_v1_[A-Za-z0-9_]{20,}"),
)
"""Well-known forms of credentials, anywhere in a text."""
BARE_WANDB_KEY = _form("a W&B API key", "'|\"|=", r"(?<=['\"=])(local-)?[0-9a-f]{40}(?![0-9A-Za-z])")
"""Forty hexadecimal digits between quotes: hidden in doubt, although they may be the name of a commit."""
NAMED_WANDB_KEY = _form(
    "a W&B API key",
    "wandb|apikey|api_key|api-key",
    r"(?i)(?P<before>(?:wandb|api[_-]?key)[^\n]{0,60}?(?<![0-9a-z]))(?:local-)?[0-9a-f]{40}(?![0-9a-z])",
)
"""The same after a word that says what it is."""

_WORD = (
    r"(?:passw(?:or)?d|passwd|pwd|passphrase|secret|credential|token|authorization|bearer"
    r"|(?:api|access|private|auth)[_-]?key)"
)
ASSIGNED = re.compile(
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
MAY_ASSIGN = re.compile(_WORD, re.IGNORECASE)
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


def is_placeholder(value: str) -> bool:
    """Say whether the value of a key such as ``password`` is a word or a variable and not a password."""
    is_word = value.lower() in _NO_SECRETS or value.startswith("[hidden:")
    return is_word or re.fullmatch(r"\$\{?\w+\}?", value) is not None
