"""Files that are not on a file system: ``https://...``, ``s3://...`` and other addresses that fsspec supports."""

from __future__ import annotations

import importlib.util
import re

_SCHEME = re.compile(r"^(?P<scheme>[a-z][a-z0-9+.-]*)://", re.IGNORECASE)

_HTTP = ("http", "https")

_EXTRA = ("fsspec", "aiohttp", "s3fs")
"""Packages of the extra ``remote``."""

_PACKAGES = {
    "http": "aiohttp",
    "https": "aiohttp",
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "hf": "huggingface_hub",
    "oss": "ossfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
}
"""Package that each scheme needs beside fsspec; fsspec handles the other schemes itself or reports what they need."""


def scheme_of(name: str) -> str | None:
    """Return ``s3`` for ``s3://bucket/x.h5``; None for a path."""
    match = _SCHEME.match(name)
    return match["scheme"].lower() if match else None


def is_remote(name: str) -> bool:
    """Return whether an entry of ``data.files`` has to be downloaded before it can be read."""
    return scheme_of(name) is not None


def is_http(name: str) -> bool:
    """Return whether a plain web server has the file; that needs no credentials."""
    return scheme_of(name) in _HTTP


def missing_package(url: str) -> str | None:
    """Return the package that is missing to download a URL, or None."""
    needed = ("fsspec", _PACKAGES.get(scheme_of(url) or ""))
    return next((name for name in needed if name and importlib.util.find_spec(name) is None), None)


def how_to_install(package: str) -> str:
    """Return the text of an error about a package that :func:`missing_package` has returned."""
    wanted = "'hpctrain[remote]'" if package in _EXTRA else package
    return f"fetching it needs the package {package}: pip install {wanted}"
