"""Look for passwords, tokens and keys in a stream of bytes, text or binary, with bounded memory.

What a text would hide in doubt (:func:`hpctrain.credentials.hide.hide_secrets`) is here reported only if it is likely:
who reads a list of a thousand names of commits overlooks the one password in it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO

from hpctrain.credentials.known import written_forms
from hpctrain.credentials.patterns import ASSIGNED, FORMS, MAY_ASSIGN, NAMED_WANDB_KEY, is_placeholder

_BLOCK = 1 << 20
_OVERLAP = 1 << 13
"""Bytes of a block that are looked at again with the next one: more than the longest credential."""
_SHORTEST_RUN = 8
_ASSIGNING = (
    *("passw", "passphrase", "pwd", "secret", "credential", "token", "authorization", "bearer"),
    *("_key", "-key", "apikey", "accesskey", "privatekey", "authkey"),
)
_VARIABLE = "the value of the variable"
_PRIVATE_KEY = "a private key"
_SURE = (_PRIVATE_KEY, "a password in a URL", "a password of a database")
_STANDS_FOR_ONE = re.compile(r"(\*{3}|â\x80¦|\[hidden|[<{]|%\()")
"""What hides a secret or is filled in later; one of them is an ellipsis in UTF-8, read as Latin-1."""
_KEY_BEGINS = "KEY-----"
_OWN_MARK = re.compile(r"token['\"]?\s*[:=]\s*['\"]?$", re.IGNORECASE)


@dataclass(frozen=True)
class Sought:
    """What to look for beside the well-known forms.

    Parameters
    ----------
    known : mapping of str to str
        Secrets as they may be written, as bytes read as Latin-1, each with the name of its variable.
    """

    known: Mapping[str, str]

    @classmethod
    def of(cls, secrets: Mapping[str, str]) -> Sought:
        """Return what to look for: each secret in each form in which it may be written."""
        return cls(
            {
                written.encode("utf-8", "surrogateescape").decode("latin-1"): name
                for secret, name in secrets.items()
                for written in written_forms(secret)
            }
        )


@dataclass(frozen=True)
class Found:
    """One credential in a stream.

    Parameters
    ----------
    kind : str
        What it is, in words; never the credential itself.
    offset : int
        Its first byte, from 0.
    line : int or None
        Its line, from 1; None in a binary file.
    length : int
        Number of its characters.
    """

    kind: str
    offset: int
    line: int | None
    length: int


def scan_stream(stream: IO[bytes], sought: Sought) -> Iterator[Found]:
    """Yield the credentials in a stream, each once, in their order.

    Parameters
    ----------
    stream : binary stream
        Read once, from where it stands, in blocks of 1 MiB.
    sought : Sought
    """
    tail, begin, line, done = b"", 0, 1, -1
    block = stream.read(_BLOCK)
    is_binary = b"\0" in block[:8192]
    while block:
        following = stream.read(_BLOCK)
        window = tail + block
        for kind, start, end in _in_window(window, sought, is_binary):
            if following and start >= len(window) - _OVERLAP:
                break  # the next window has it whole
            if begin + start > done:
                done = begin + end - 1
                where = None if is_binary else line + window.count(b"\n", 0, start)
                yield Found(kind, begin + start, where, end - start)
        tail = window[-_OVERLAP:]
        line += window.count(b"\n", 0, len(window) - len(tail))
        begin += len(window) - len(tail)
        block = following


def _in_window(window: bytes, sought: Sought, is_binary: bool) -> list[tuple[str, int, int]]:
    """Return kind, first byte and end of each credential, sorted; of two that overlap, the first or the known one."""
    if not is_binary:
        found = _in_text(window.decode("latin-1"), sought)
    else:
        text, places = _printable_runs(window)
        found = [(kind, *_moved(start, end, places)) for kind, start, end in _in_text(text, sought)]
    kept: list[tuple[str, int, int]] = []
    for each in sorted(found, key=lambda item: item[1]):
        if not kept or each[1] >= kept[-1][2]:
            kept.append(each)
        elif each[0].startswith(_VARIABLE) and not kept[-1][0].startswith(_VARIABLE):
            kept[-1] = each
    return kept


def _printable_runs(window: bytes) -> tuple[str, list[tuple[int, int]]]:
    """Return the runs of printable bytes, one per line, and for each its place in the text and in the window."""
    import numpy as np  # not above: `hpctrain lint` runs where no package is installed

    values = np.frombuffer(window, np.uint8)
    edges = np.flatnonzero(np.diff(((values >= 32) & (values < 127)).astype(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]
    long = ends - starts >= _SHORTEST_RUN
    texts: list[str] = []
    places: list[tuple[int, int]] = []
    size = 0
    for start, end in zip(starts[long].tolist(), ends[long].tolist(), strict=True):
        places.append((size, start))
        texts.append(window[start:end].decode("ascii"))
        size += end - start + 1
    return "\n".join(texts), places


def _moved(start: int, end: int, places: list[tuple[int, int]]) -> tuple[int, int]:
    in_text, in_window = places[bisect_right(places, (start, 1 << 62)) - 1]
    return start - in_text + in_window, end - in_text + in_window


def _in_text(text: str, sought: Sought) -> list[tuple[str, int, int]]:
    found = list(_known_in(text, sought))
    small = text.lower()
    for form in (*FORMS, NAMED_WANDB_KEY):
        if any(hint in small for hint in form.hints):
            for match in form.pattern.finditer(text):
                start = match.end("before") if "before" in form.pattern.groupindex else match.start()
                end = match.end()
                if form.kind == _PRIVATE_KEY:  # its first line: without a last line it would hide all that follows
                    end = text.index(_KEY_BEGINS, start) + len(_KEY_BEGINS)
                if _is_likely(form.kind, text[start:end]):
                    found.append((form.kind, start, end))
    if any(word in small for word in _ASSIGNING):
        found += _assigned_in(text)
    return found


def _known_in(text: str, sought: Sought) -> Iterator[tuple[str, int, int]]:
    for secret, name in sought.known.items():
        start = text.find(secret)
        while start >= 0:
            yield f"{_VARIABLE} {name}", start, start + len(secret)
            start = text.find(secret, start + len(secret))


def _is_likely(kind: str, value: str) -> bool:
    return not _STANDS_FOR_ONE.search(value) and (kind in _SURE or any(map(str.isdigit, value)))


def _assigned_in(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield values of keys such as ``password`` that are no words, numbers, paths or names of variables."""
    end = 0
    for word in MAY_ASSIGN.finditer(text):
        if word.start() < end:
            continue
        match = ASSIGNED.search(text, max(end, word.start() - 62), min(len(text), word.end() + 4200))
        if match is None or match.start() > word.start():
            continue
        end = match.end()
        which = "quoted" if match["quoted"] else "bare"
        if _is_password(match[which], match["before"]):
            yield "a password or token", *match.span(which)


def _is_password(value: str, before: str) -> bool:
    if len(value) < 8 or is_placeholder(value) or _STANDS_FOR_ONE.search(value) or re.search(r"[\s()]", value):
        return False
    if value.startswith(("/", "./", "~", "$")) or not re.search(r"[A-Za-z]", value) or not re.search(r"\d", value):
        return False
    # The registry marks its versions and moves with random "tokens" of 32 hexadecimal digits, which open nothing.
    return not (re.fullmatch(r"[0-9a-f]{32}", value) and _OWN_MARK.search(before))
