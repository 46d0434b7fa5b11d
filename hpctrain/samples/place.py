"""Where a copy of a file is on this node's disk: its folder, its lock, its record, and room for it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import time
from pathlib import Path

from hpctrain.errors import SiteError
from hpctrain.rundir import read_json
from hpctrain.samples.activity import Activity
from hpctrain.samples.sources import Source

BLOCK_BYTES = 8 * 2**20
"""Read, checked and written at a time: two stripes of most parallel file systems."""

KEEP_FREE_BYTES = 256 * 2**20
"""Left free for others: on a completely full disk every program of the node fails."""

_WAIT_S = 60.0
"""How long another process may hold the same copy and do nothing: it hangs, or reads a copy damaged since then."""

_OWN_NAMES = ("lock", "record.json", "part", "checks")
"""Of files in the folder of a copy that are not the copy."""

_LONGEST_NAME_BYTES = 200
"""Of a copy; file systems allow 255 bytes."""


class Place:
    """Where the copy of one version of one file is, or will be."""

    def __init__(self, ours: Path, source: Source) -> None:
        self.source = source
        self.identity = {"source": source.origin, "version": source.version}
        self.folder = ours / _digest("\n".join(self.identity.values()))
        self.file = self.folder / _name_of_copy(source.file_name)
        self.record = self.folder / "record.json"
        self.part = self.folder / "part"
        self.checks = self.folder / "checks"
        self._lock: int | None = None

    @property
    def num_blocks(self) -> int:
        return -(-self.source.num_bytes // BLOCK_BYTES)

    def block_bytes(self, number: int) -> int:
        return min(BLOCK_BYTES, self.source.num_bytes - number * BLOCK_BYTES)

    def is_finished(self) -> bool:
        """Whether the verified copy is there, unchanged."""
        record = read_json(self.record) or {}
        with contextlib.suppress(OSError):
            status = self.file.stat()
            written = {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
            return record == {**self.identity, **written} and status.st_size == self.source.num_bytes
        return False

    def missing_bytes(self) -> int:
        """Return how many bytes the rest of the copy needs."""
        if self.is_finished():
            return 0
        with contextlib.suppress(OSError):
            return max(0, self.source.num_bytes - self.part.stat().st_blocks * 512)
        return self.source.num_bytes

    def take(self, activity: Activity) -> bool:
        """Lock the place; return whether the copy is finished. If not, only this process may make it."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        seen_ns, seen_s = 0, time.monotonic()
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                if self.is_finished():
                    return True
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not self._was_removed():
                    return self.is_finished()
                os.close(self._lock)
                return self.take(activity)
            # Another job of this user copies the same file; it is alive as long as it touches its lock.
            if seen_ns != (seen_ns := os.fstat(self._lock).st_mtime_ns):
                seen_s = time.monotonic()
                activity.moved()
            elif time.monotonic() - seen_s > _WAIT_S:
                raise SiteError(f"{self.folder}: held by another process, which has done nothing for {_WAIT_S:.0f} s")
            activity.check()
            time.sleep(0.1)

    def touch(self) -> None:
        """Show those who wait for this copy that this process is working on it."""
        os.utime(self._lock)

    def share(self) -> None:
        """Let others read too; the lock is held until this process ends."""
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _was_removed(self) -> bool:
        with contextlib.suppress(OSError):
            return os.fstat(self._lock).st_ino != (self.folder / "lock").stat().st_ino
        return True

    def give_up(self, discard: bool) -> None:
        """Unlock the place; remove an unfinished copy if nobody will finish it."""
        if self._lock is None:
            return
        if discard and not self.is_finished():
            for path in (self.part, self.checks):
                with contextlib.suppress(OSError):
                    path.unlink()
        os.close(self._lock)
        self._lock = None


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _name_of_copy(name: str) -> str:
    """Return the name of its source, or another one where that cannot be a file beside those of :data:`_OWN_NAMES`.

    Anybody can choose the name of a remote file, such as ``lock``, ``..`` or one with a NUL.
    """
    is_usable = (
        name.isprintable()
        and "/" not in name
        and not name.startswith(".")
        and name not in _OWN_NAMES
        and 0 < len(os.fsencode(name)) <= _LONGEST_NAME_BYTES
    )
    return name if is_usable else f"file-{_digest(name)}"


def private_folder(folder: Path) -> Path:
    """Return a folder below `folder` that belongs to this user alone: in /tmp, anybody can make one of that name."""
    ours = folder / f"hpctrain-{os.getuid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ours.mkdir(mode=0o700, exist_ok=True)
        status = ours.lstat()
    except OSError as error:
        raise SiteError(f"{error.filename or ours}: cannot be used: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise SiteError(f"{ours}: belongs to somebody else")
    return ours


def need_room(ours: Path, missing_bytes: int, needed: set[Path]) -> None:
    """Check that there is enough room; if there is not, remove copies that no job uses any more."""
    wanted = missing_bytes + (KEEP_FREE_BYTES if missing_bytes else 0)
    if wanted > _free_bytes(ours):
        for folder in sorted(ours.iterdir(), key=lambda path: path.stat().st_mtime):
            if wanted <= _free_bytes(ours):
                break
            if folder not in needed:
                remove_unused(folder)
    free = _free_bytes(ours)
    if wanted > free:
        raise SiteError(
            f"{ours.parent}: no room: {missing_bytes / 2**30:.2f} GiB to copy, {free / 2**30:.2f} GiB are free"
            f" ({KEEP_FREE_BYTES / 2**30:.2f} of them are left to others)"
        )


def _free_bytes(folder: Path) -> int:
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize


def is_unused(folder: Path) -> bool:
    """Return whether no process of this node holds or makes the copy in a folder."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        finally:
            os.close(descriptor)
    return False


def remove_unused(folder: Path) -> None:
    """Remove the copy in a folder, unless a process of this node holds or makes it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
