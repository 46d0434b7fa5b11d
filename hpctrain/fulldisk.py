"""Recognise a full disk or an exhausted quota, and keep printing to a log on such a disk."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_WORDS = tuple(os.strerror(number) for number in _DISK_FULL)


def is_disk_full(error: BaseException) -> bool:
    """Return whether a full disk or an exhausted quota caused an exception.

    Libraries such as HDF5 and safetensors report it only in the text of their own errors.
    """
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in _DISK_FULL or any(words in str(cause) for words in _WORDS):
            return True
        cause = cause.__cause__
    return False


def tolerate_full_log() -> None:
    """Let this process continue when writing to standard output or standard error fails.

    If they are files on a full disk, lines are lost. Without this, a ``print`` would end the run.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            raw = _LossyFile(stream.fileno(), "w", closefd=False)
            text = io.TextIOWrapper(raw, stream.encoding, stream.errors, line_buffering=True, write_through=True)  # type: ignore[arg-type]
            stream.flush()
            setattr(sys, name, text)


class _LossyFile(io.FileIO):
    """A file that drops the bytes that it cannot write."""

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        left = memoryview(data)
        with contextlib.suppress(OSError):
            while left:
                left = left[super().write(left) or len(left) :]
        return len(data)
