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
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hpctrain.errors import DataError, SiteError
from hpctrain.rundir import fsync_directory, write_json
from hpctrain.samples.activity import Activity, WorkCancelledError
from hpctrain.samples.place import BLOCK_BYTES, Place, need_room, private_folder
from hpctrain.samples.sources import Source

FILES_AT_ONCE = 4

_TRIES = 5
"""How often a read from a network or a store is tried; a file system repeats reads itself."""

CHECK_BYTES = 4


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
    ours = private_folder(folder)
    places = [Place(ours, source) for source in sources]
    missing_bytes = sum(place.missing_bytes() for place in places)
    need_room(ours, missing_bytes, {place.folder for place in places})
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


def _stage_one(place: Place, activity: Activity) -> None:
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


def _copy(place: Place, activity: Activity) -> None:
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


def _whole_blocks(place: Place, descriptor: int, checks: BinaryIO, activity: Activity) -> int:
    """Return how many blocks of an earlier attempt are right; the checksums of all later ones are dropped."""
    checks.seek(0)
    known = checks.read()
    whole = 0
    for number in range(min(place.num_blocks, len(known) // CHECK_BYTES)):
        if not _is_right(place, number, descriptor, known):
            break
        whole += 1
        place.touch()
        activity.moved(place.block_bytes(number))
    checks.truncate(whole * CHECK_BYTES)
    return whole


def _is_right(place: Place, number: int, descriptor: int, known: bytes) -> bool:
    block = os.pread(descriptor, place.block_bytes(number), number * BLOCK_BYTES)
    return _check_of(block) == known[number * CHECK_BYTES : (number + 1) * CHECK_BYTES]


def _check_of(block: bytes | memoryview) -> bytes:
    # CRC-32 finds what disks and networks do, as fast as memory is read; nobody attacks their own copy.
    return zlib.crc32(block).to_bytes(CHECK_BYTES, "little")


def _copy_blocks(
    place: Place, numbers: range, descriptor: int, checks: BinaryIO | None, activity: Activity
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


def _verify(place: Place, descriptor: int, checks: BinaryIO, activity: Activity) -> None:
    """Read the copy back from the disk, not from memory, and copy a block that differs once more."""
    checks.seek(0)
    known = checks.read()
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    for number in range(place.num_blocks):
        if not _is_right(place, number, descriptor, known):
            again = _copy_blocks(place, range(number, number + 1), descriptor, None, activity)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, number * BLOCK_BYTES, BLOCK_BYTES, os.POSIX_FADV_DONTNEED)
            if not _is_right(place, number, descriptor, b"\0" * (number * CHECK_BYTES) + again[0]):
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
