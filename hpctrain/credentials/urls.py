"""Addresses as they are shown and recorded: without user, password and signature."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_LOGIN = re.compile(r"(://)[^/@\s'\"]+@")


def without_login(url: str) -> str:
    """Return a URL without the user and password that it may have."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    authority, slash, path = rest.partition("/")
    port = authority.rpartition(":")[2]
    if "@" not in authority and ":" in authority and not port.isdigit():  # the password holds a slash
        return f"{scheme}{mark}{rest.rpartition('@')[2]}"
    return f"{scheme}{mark}{authority.rpartition('@')[2]}{slash}{path}"


def without_secrets(url: str) -> str:
    """Return a URL without its secrets: without the query, which may hold a signature, and without the user."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" + ("?..." if parts.query else "")


def without_logins(text: str) -> str:
    """Return a text in which all URLs are without user and password; a mark says that they had them."""
    return _LOGIN.sub(r"\1…@", text)
