"""Copies of files on a disk of this node: whole and verified; the next attempt and other jobs use them again.

::

    <data.stage>/hpctrain-<user id>/<name of the version>/
        lock            the process that copies holds it exclusively, those that read share it
        spectra.h5      the copy, whole
        record.json     what it is a copy of; written after it was verified
        part, checks    an unfinished copy, and a checksum of each block written so far

An interrupted copy continues after the last block whose checksum is right. Nothing here knows about ranks.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hpctrain.errors import DataError, SiteError
from hpctrain.rundir import fsync_directory, read_json, write_json
from hpctrain.samples.activity import Activity, WorkCancelledError
from hpctrain.samples.sources import Source

BLOCK_BYTES = 8 * 2**20
"""Read, checked and written at a time: two stripes of most parallel file systems."""

FILES_AT_ONCE = 4

_KEEP_FREE_BYTES = 256 * 2**20
"""Left free for others: on a completely full disk every program of the node fails."""

_TRIES = 5
"""How often a read from a network or a store is tried; a file system repeats reads itself."""

_WAIT_S = 60.0
"""How long another process may hold the same copy and do nothing: it hangs, or reads a copy damaged since then."""

_CHECK_BYTES = 4

_OWN_NAMES = ("lock", "record.json", "part", "checks")
"""Of files in the folder of a copy that are not the copy."""

_LONGEST_NAME_BYTES = 200
"""Of a copy; file systems allow 255 bytes."""


@dataclass(frozen=True)
class Staged:
    """What :func:`stage` has made.

    Parameters
    ----------
    paths : list of Path
        One for each source, in order.
    num_bytes, copied_bytes : int
        Of all files, and of those that were not there yet.
    """

    paths: list[Path]
    num_bytes: int
    copied_bytes: int


def stage(sources: list[Source], folder: Path, activity: Activity) -> Staged:
    """Make a verified copy of each file below a folder; copies that are there already are used again.

    The copies stay in use until this process ends. Until then no other job removes them to make room.

    Parameters
    ----------
    sources : list of Source
    folder : Path
        On a disk of this node; made if it does not exist.
    activity : Activity
        Counts every block.

    Returns
    -------
    Staged

    Raises
    ------
    SiteError
        The disk has no room, refuses access, fails, or damages what is written. No unfinished copy is left.
    DataError
        A source cannot be read, or changed meanwhile. What was copied stays.
    WorkCancelledError
        The activity was cancelled. What was copied stays.
    """
    ours = _private_folder(folder)
    places = [_Place(ours, source) for source in sources]
    missing_bytes = sum(place.missing_bytes() for place in places)
    _need_room(ours, missing_bytes, {place.folder for place in places})
    activity.total_bytes += sum(source.num_bytes for source in sources)
    with ThreadPoolExecutor(max(1, min(FILES_AT_ONCE, len(places))), thread_name_prefix="stage") as pool:
        futures = [pool.submit(_stage_one, place, activity) for place in places]
        try:
            # One that fails has cancelled the others: none of them would be of use.
            errors = [error for future in futures if (error := future.exception()) is not None]
        except BaseException:
            activity.cancelled.set()
            raise
    for error in sorted(errors, key=lambda error: isinstance(error, WorkCancelledError)):
        for place in places:
            place.give_up(discard=isinstance(error, SiteError))
        raise error
    return Staged([place.file for place in places], sum(s.num_bytes for s in sources), missing_bytes)


class _Place:
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


def _private_folder(folder: Path) -> Path:
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


def _need_room(ours: Path, missing_bytes: int, needed: set[Path]) -> None:
    """Check that there is enough room; if there is not, remove copies that no job uses any more."""
    wanted = missing_bytes + (_KEEP_FREE_BYTES if missing_bytes else 0)
    if wanted > _free_bytes(ours):
        for folder in sorted(ours.iterdir(), key=lambda path: path.stat().st_mtime):
            if wanted <= _free_bytes(ours):
                break
            if folder not in needed:
                _remove_unused(folder)
    free = _free_bytes(ours)
    if wanted > free:
        raise SiteError(
            f"{ours.parent}: no room: {missing_bytes / 2**30:.2f} GiB to copy, {free / 2**30:.2f} GiB are free"
            f" ({_KEEP_FREE_BYTES / 2**30:.2f} of them are left to others)"
        )


def _free_bytes(folder: Path) -> int:
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize


def _remove_unused(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _stage_one(place: _Place, activity: Activity) -> None:
    try:
        if place.take(activity):
            activity.moved(place.source.num_bytes)
        else:
            _copy(place, activity)
        place.share()
    except OSError as error:  # of the disk; what a source raises is a DataError by now
        activity.cancelled.set()
        raise SiteError(f"{error.filename or place.folder}: {error.strerror or error}") from error
    except BaseException:
        activity.cancelled.set()
        raise


def _copy(place: _Place, activity: Activity) -> None:
    if place.file.exists():  # renamed, but killed before its record was written
        os.replace(place.file, place.part)
    descriptor = os.open(place.part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with open(place.checks, "a+b", buffering=0) as checks:
            first = _whole_blocks(place, descriptor, checks, activity)
            _copy_blocks(place, range(first, place.num_blocks), descriptor, checks, activity)
            os.fsync(descriptor)
            _verify(place, descriptor, checks, activity)
        os.ftruncate(descriptor, place.source.num_bytes)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        version = place.source.current_version()
    except OSError as error:
        raise DataError(f"{place.source.name}: was removed while it was copied ({error.strerror})") from error
    if version != place.source.version:
        raise DataError(f"{place.source.name}: changed while it was copied; let its writer finish, then start again")
    if place.source.modified_ns is not None:  # the hashes in it are those of a file of that time
        os.utime(place.part, ns=(place.source.modified_ns, place.source.modified_ns))
    os.replace(place.part, place.file)
    fsync_directory(place.folder)
    status = place.file.stat()
    write_json(place.record, {**place.identity, "bytes": status.st_size, "modified_ns": status.st_mtime_ns})
    place.checks.unlink()


def _whole_blocks(place: _Place, descriptor: int, checks: BinaryIO, activity: Activity) -> int:
    """Return how many blocks of an earlier attempt are right; the checksums of all later ones are dropped."""
    checks.seek(0)
    known = checks.read()
    whole = 0
    for number in range(min(place.num_blocks, len(known) // _CHECK_BYTES)):
        if not _is_right(place, number, descriptor, known):
            break
        whole += 1
        place.touch()
        activity.moved(place.block_bytes(number))
    checks.truncate(whole * _CHECK_BYTES)
    return whole


def _is_right(place: _Place, number: int, descriptor: int, known: bytes) -> bool:
    block = os.pread(descriptor, place.block_bytes(number), number * BLOCK_BYTES)
    return _check_of(block) == known[number * _CHECK_BYTES : (number + 1) * _CHECK_BYTES]


def _check_of(block: bytes | memoryview) -> bytes:
    # CRC-32 finds what disks and networks do, as fast as memory is read; nobody attacks their own copy.
    return zlib.crc32(block).to_bytes(_CHECK_BYTES, "little")


def _copy_blocks(
    place: _Place, numbers: range, descriptor: int, checks: BinaryIO | None, activity: Activity
) -> list[bytes]:
    """Copy blocks and return the checksum of each; it is appended to `checks` after its block was written."""
    reader = _Reader(place.source, numbers.start * BLOCK_BYTES, activity)
    found = []
    with contextlib.closing(reader):
        for number in numbers:
            block = reader.read(place.block_bytes(number))
            found.append(_check_of(block))
            _write_all(descriptor, block, number * BLOCK_BYTES)
            if checks is not None:
                checks.write(found[-1])
            place.touch()
            activity.moved(len(block))
    return found


def _write_all(descriptor: int, block: memoryview, offset: int) -> None:
    while block:
        written = os.pwrite(descriptor, block, offset)
        block, offset = block[written:], offset + written


def _verify(place: _Place, descriptor: int, checks: BinaryIO, activity: Activity) -> None:
    """Read the copy back from the disk, not from memory, and copy a block that differs once more."""
    checks.seek(0)
    known = checks.read()
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    for number in range(place.num_blocks):
        if not _is_right(place, number, descriptor, known):
            again = _copy_blocks(place, range(number, number + 1), descriptor, None, activity)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, number * BLOCK_BYTES, BLOCK_BYTES, os.POSIX_FADV_DONTNEED)
            if not _is_right(place, number, descriptor, b"\0" * (number * _CHECK_BYTES) + again[0]):
                raise SiteError(f"{place.part}: the disk damages what is written to it (byte {number * BLOCK_BYTES})")
        place.touch()
        activity.moved()


class _Reader:
    """Read the blocks of a source one after the other; where a remote one fails, ask again from there."""

    def __init__(self, source: Source, offset: int, activity: Activity) -> None:
        self._source, self._offset, self._activity = source, offset, activity
        self._stream: BinaryIO | None = None
        self._buffer = bytearray(BLOCK_BYTES)

    def read(self, num_bytes: int) -> memoryview:
        """Return the next bytes; they are overwritten by the next call."""
        block = memoryview(self._buffer)[:num_bytes]
        filled = 0
        tries = _TRIES if self._source.is_remote else 1
        while filled < num_bytes:
            try:
                if self._stream is None:
                    self._stream = self._source.open_at(self._offset)
                got = self._stream.readinto(block[filled:])
                if not got:
                    raise OSError("ends early")
            except DataError:
                raise
            except Exception as error:  # each store has errors of its own
                self.close()
                tries -= 1
                if not tries:
                    raise DataError(f"{self._source.name}: byte {self._offset} cannot be read: {error}") from error
                if self._activity.cancelled.wait(0.5 * 2 ** (_TRIES - tries)):
                    raise WorkCancelledError from None
                continue
            filled += got
            self._offset += got
            if self._source.is_remote:
                self._activity.moved()  # a slow line is no dead one
        return block

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
