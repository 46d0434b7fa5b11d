"""Copies of files on a disk of this node: whole, verified, found again by the next attempt, and shared by jobs.

::

    <data.stage>/hpctrain-<user id>/<name of the version>/
        lock            held exclusively by whoever copies, together by whoever reads
        spectra.h5      the copy; only ever whole
        record.json     what it is a copy of, written when it was verified
        part, checks    a copy under way, and a checksum of each block of it that is written

A copy that was cut off goes on behind the last block whose checksum is right. Nothing here knows of ranks.
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
from hpctrain.spectra.activity import Activity, WorkCancelledError
from hpctrain.spectra.sources import Source

BLOCK_BYTES = 8 * 2**20
"""Read, checked and written at a time: two stripes of most parallel file systems."""

FILES_AT_ONCE = 4

_KEEP_FREE_BYTES = 256 * 2**20
"""Left for others: a disk that is full to the last byte fails in every program of the node."""

_TRIES = 5
"""Of a read that a network or a store fails; a file system tries by itself."""

_WAIT_S = 60.0
"""For another process that holds the same copy and does nothing: it hangs, or reads one that was damaged since."""

_CHECK_BYTES = 4


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
    """Have a verified copy of each file below a folder, copying only what is not there.

    The copies stay in use until this process ends; until then no other job removes them to make room.

    Parameters
    ----------
    sources : list of Source
    folder : Path
        On a disk of this node; made if need be.
    activity : Activity
        Told of every block.

    Returns
    -------
    Staged

    Raises
    ------
    SiteError
        The disk: no room, no permission, an error, or copies that read back otherwise. Nothing half copied is left.
    DataError
        A source cannot be read, or changed meanwhile. What is copied stays.
    WorkCancelledError
        As the activity asked; what is copied stays.
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
        self.folder = ours / hashlib.sha256("\n".join(self.identity.values()).encode()).hexdigest()[:16]
        self.file = self.folder / (source.file_name or "file")
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
        """Whether the copy stands there as it was verified."""
        record = read_json(self.record) or {}
        with contextlib.suppress(OSError):
            status = self.file.stat()
            written = {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
            return record == {**self.identity, **written} and status.st_size == self.source.num_bytes
        return False

    def missing_bytes(self) -> int:
        """Return the room that the rest of the copy will take."""
        if self.is_finished():
            return 0
        with contextlib.suppress(OSError):
            return max(0, self.source.num_bytes - self.part.stat().st_blocks * 512)
        return self.source.num_bytes

    def take(self, activity: Activity) -> bool:
        """Hold the place; return whether the copy is finished, else it is ours alone to make."""
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
        """Show who waits for this copy that it is being worked on."""
        os.utime(self._lock)

    def share(self) -> None:
        """Let others read too; the lock is held until this process ends."""
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _was_removed(self) -> bool:
        with contextlib.suppress(OSError):
            return os.fstat(self._lock).st_ino != (self.folder / "lock").stat().st_ino
        return True

    def give_up(self, discard: bool) -> None:
        """Let others have the place, and the room of what is half copied where it will not be finished."""
        if self._lock is None:
            return
        if discard and not self.is_finished():
            for path in (self.part, self.checks):
                with contextlib.suppress(OSError):
                    path.unlink()
        os.close(self._lock)
        self._lock = None


def _private_folder(folder: Path) -> Path:
    """Return a folder below `folder` that is this user's alone: in /tmp anybody could have made it before."""
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
    """See that there is room, removing copies that no job uses any more if that gives it."""
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
    """Return how many blocks of an earlier attempt are as they should be; what follows them is forgotten."""
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
    """Read the copy back, from the disk and not from memory, and copy a block that came back otherwise once more."""
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
    """Blocks of a source, one after the other; a remote one is asked again where it fails."""

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
            except Exception as error:  # each store has its own
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
