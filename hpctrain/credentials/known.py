"""The passwords, tokens and keys that the environment of this process holds."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from hpctrain.credentials.patterns import is_placeholder, is_secret_key

_SHORTEST = 8
"""Shorter values are words that occur in any text."""
_PLACES = re.compile(r"(^PWD$|_(FILE|PATH|DIR|SOCK|SOCKET|TYPE|MODE|EXPIRATION)$|^SSH_)")
"""Ends of the names of variables that say where a secret is, or what about it, and do not hold it."""
_WEBHOOK = re.compile(r"(^|_)WEBHOOK(_URL)?$")
"""Ends of the names of variables with the address of a webhook: who knows it can post there."""
_LOGIN = re.compile(r"://([^/\s@]*):([^/\s@]+)@")


def known_secrets(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the secrets of the environment, each with the name of its variable, the longest secret first.

    They are the values of variables whose names say so (``WANDB_API_KEY``, ``PGPASSWORD``), the addresses of webhooks
    (``HPCTRAIN_ALERT_WEBHOOK``), and the passwords in the URLs of all others (``MLFLOW_TRACKING_URI``).

    Parameters
    ----------
    environment : mapping of str to str
    """
    found: dict[str, str] = {}
    for name, value in environment.items():
        is_named = (is_secret_key(name) and not _PLACES.search(name)) or _WEBHOOK.search(name)
        if is_named and _may_be_secret(value):
            found.setdefault(value, name)
        for _, password in _LOGIN.findall(value):
            for written in {password, unquote(password)}:
                if len(written) >= _SHORTEST:
                    found.setdefault(written, name)
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def written_forms(secret: str) -> set[str]:
    """Return how a secret may be written: as it is, in a URL, in JSON, in HTML."""
    return {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1], html.escape(secret)}


def _may_be_secret(value: str) -> bool:
    is_number = re.fullmatch(r"[\d.,:+-]{1,15}", value) is not None
    is_path = value.startswith(("/", "~", "./")) and (value.count("/") > 1 or os.path.exists(value))
    return len(value) >= _SHORTEST and not (is_number or is_path or is_placeholder(value))
