"""The trail as a chain: one JSON object per line, each with the SHA-256 of the line before.

``registry/audit.jsonl`` only grows. A writer that is killed while it writes leaves an unfinished line. The next writer
keeps these bytes, ends the line, and says in its own entry how many bytes to skip and what their SHA-256 is. So the
chain goes on, and nobody can pass a changed line off as an unfinished one. The whole file is locked while an entry is
written, so several users can write at once; the kernel releases the lock when its holder ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain.credentials.hide import hide_known
from hpctrain.errors import SiteError
from hpctrain.files import open_append, open_regular
from hpctrain.records import parse_json
from hpctrain.trail.folder import FILE
from hpctrain.trail.who import who

_TAIL = 1 << 20
"""Number of bytes at the end to look at; several times the longest entry."""
_LONGEST_TEXT = 10_000
_KEYS = ("number", "when", "user", "uid", "host", "action", "subject", "details", "before", "skipped")


@dataclass(frozen=True)
class Entry:
    """A whole line of the trail.

    Parameters
    ----------
    facts : mapping
        ``number``, ``when`` [s since 1970], ``user``, ``uid``, ``host``, ``action``, ``subject``, ``details``,
        ``before`` (SHA-256 of the line before, or None) and ``skipped`` (None, or ``bytes`` and ``sha256`` of an
        unfinished line before this one).
    digest : str
        SHA-256 of the line without its line break.
    """

    facts: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class Damaged:
    """Bytes between two entries that are no entry.

    Parameters
    ----------
    content : bytes
        With its line breaks.
    """

    content: bytes


def record(registry: Path, action: str, subject: str, **details: Any) -> Entry:
    """Append an entry to the trail; it is on the disk when the function returns.

    Parameters
    ----------
    registry : Path
        Folder of the registry, which must exist.
    action : str
        Such as ``promote``.
    subject : str
        What it was done to, such as ``photoz:3``.
    **details
        Plain values.

    Raises
    ------
    SiteError
        The entry cannot be written.
    """
    path = registry / FILE
    try:
        descriptor = open_append(path)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
            _give_permissions(descriptor, registry)
            line, entry = _next_line(descriptor, action, subject, details)
            if os.write(descriptor, line) != len(line):
                raise OSError(28, "the disk is full")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SiteError(
            f"{path}: the audit trail cannot be written: {error.strerror}; '{action} {subject}' was not done"
        ) from error
    return entry


def _give_permissions(descriptor: int, registry: Path) -> None:
    """Let everybody append who can write to the folder of the registry."""
    facts = os.fstat(descriptor)
    mode = registry.stat().st_mode & 0o666
    if facts.st_uid == os.geteuid() and facts.st_mode & 0o777 != mode:
        os.fchmod(descriptor, mode)


def _next_line(descriptor: int, action: str, subject: str, details: Mapping[str, Any]) -> tuple[bytes, Entry]:
    """Return the bytes to append, and the entry in them."""
    size = os.fstat(descriptor).st_size
    begin = max(0, size - _TAIL)
    tail = os.pread(descriptor, size - begin, begin)
    last, rest = _last_entry(tail)
    prefix = b"\n" if tail and not tail.endswith(b"\n") else b""
    if rest:
        rest += prefix
    facts = {
        "number": 1 if last is None else last.facts["number"] + 1,
        "when": time.time(),
        **who(),
        "action": action,
        "subject": _short(subject),
        "details": {name: _short(value) for name, value in details.items()},
        "before": None if last is None else last.digest,
        "skipped": {"bytes": len(rest), "sha256": hashlib.sha256(rest).hexdigest()} if rest else None,
    }
    line = json.dumps(facts, sort_keys=True).encode()
    return prefix + line + b"\n", Entry(facts, hashlib.sha256(line).hexdigest())


def _last_entry(tail: bytes) -> tuple[Entry | None, bytes]:
    """Return the last whole entry, and the bytes after its line break."""
    end = len(tail)
    while end > 0:
        begin = tail.rfind(b"\n", 0, end) + 1
        if (entry := _entry_of(tail[begin:end])) is not None:
            return entry, tail[end + 1 :]
        end = begin - 1
    return None, tail


def _entry_of(line: bytes) -> Entry | None:
    try:
        facts = parse_json(line.decode("utf-8", "strict"))
    except ValueError:
        return None
    if not isinstance(facts, dict) or sorted(facts) != sorted(_KEYS) or not isinstance(facts["number"], int):
        return None
    return Entry(facts, hashlib.sha256(line).hexdigest())


def _short(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return hide_known(value)[:_LONGEST_TEXT].encode("utf-8", "replace").decode()


def read_trail(path: Path) -> Iterator[Entry | Damaged]:
    """Yield the entries of a trail, oldest first, and the bytes between them that are none; nothing without a file.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    damaged = b""
    try:
        stream = os.fdopen(open_regular(path), "rb")
    except FileNotFoundError:
        return
    with stream:
        for line in stream:
            entry = _entry_of(line.rstrip(b"\n"))
            if entry is None:
                damaged += line
                continue
            if damaged:
                yield Damaged(damaged)
                damaged = b""
            yield entry
    if damaged:
        yield Damaged(damaged)
