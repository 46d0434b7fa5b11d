"""Decode the filters of an HDF5 file outside libhdf5, which serves one thread at a time.

gzip (with libdeflate if the package ``deflate`` is installed), bzip2, shuffle and the Fletcher checksum are decoded
here. For the other common filters we call the same function that libhdf5 would call: a filter plugin (hdf5plugin, or
one in ``HDF5_PLUGIN_PATH``) is a shared library with a C function that needs no lock, and ctypes releases the
interpreter's lock while it runs. The sizes in the chunk that these functions trust are checked first. Filters that are
not listed here may use global variables or hang on a damaged chunk, so libhdf5 decodes them.

References
----------
.. [1] HDF5 Filter Plugins, H5PL and H5Z user guides, https://docs.hdfgroup.org/hdf5/
"""

from __future__ import annotations

import bz2
import contextlib
import ctypes
import functools
import struct
import weakref
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from hpctrain.samples.filter_plugins import (
    BITSHUFFLE,
    BLOSC,
    BLOSC2,
    BZIP2,
    DEFLATE,
    FLETCHER32,
    LZ4,
    LZF,
    SHUFFLE,
    ZSTD,
    bitshuffle_function,
    blosc2_unshuffle,
    function_of,
    libc,
)
from hpctrain.samples.guards import DamagedChunkError, guard_bitshuffle, guard_blosc, guard_lz4, guard_zstd

try:
    import deflate
except ImportError:
    deflate = None

_CALLED = {
    LZF: None,  # checks its input itself, like Blosc 2
    LZ4: guard_lz4,
    BLOSC: guard_blosc,
    BITSHUFFLE: guard_bitshuffle,
    ZSTD: guard_zstd,
    BLOSC2: None,
}
"""Filters whose function is called directly, with the check of the chunk before the call."""
_BITSHUFFLE_HEADER = struct.Struct(">QI")
"""Header: size of the chunk and of each block [byte]."""
_REVERSE = 0x0100  # H5Z_FLAG_REVERSE: undo the filter


@dataclass(frozen=True)
class Filter:
    """One filter of a dataset, from its creation properties.

    Parameters
    ----------
    number : int
        Registered number of the filter.
    name : str
        For messages.
    parameters : tuple of int
        Parameters of the filter (``cd_values``).
    """

    number: int
    name: str
    parameters: tuple[int, ...]


_Undo = Callable[[object, int, "np.ndarray | None"], object]
"""Takes the bytes, the size of the decoded chunk, and (in the last step) the array to write to; returns bytes."""


class Pipeline:
    """The filters of one dataset, decoded in reverse order of their application.

    Parameters
    ----------
    filters : sequence of Filter
        Filters in the order in which they were applied.

    Raises
    ------
    LookupError
        This module has no function for one of them; libhdf5 may have one (szip, scale-offset, n-bit).
    """

    def __init__(self, filters: Sequence[Filter]) -> None:
        self._undo = [(1 << place, _undoer(item)) for place, item in reversed(list(enumerate(filters)))]

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> Pipeline:
        """Return the pipeline of a dataset; raises LookupError as above."""
        properties = dataset.id.get_create_plist()
        found = [properties.get_filter(place) for place in range(properties.get_nfilters())]
        return cls([Filter(number, name.decode(errors="replace"), values) for number, _, values, name in found])

    def decode_into(self, stored: np.ndarray, out: np.ndarray, skipped: int = 0) -> None:
        """Decode a chunk into `out`.

        Parameters
        ----------
        stored : ndarray, uint8
            A chunk as it is stored in the file.
        out : ndarray, shape (bytes of the chunk before it was filtered,), uint8
            Array to fill. Reuse it: getting new memory from the system takes longer than decoding.
        skipped : int
            Bit mask of filters that were not applied to this chunk.

        Raises
        ------
        DamagedChunkError
            A filter rejects the bytes, or the result has the wrong size.
        """
        data: object = stored
        steps = self._steps(skipped)
        try:
            for number, undo in enumerate(steps, 1):
                data = undo(data, out.size, out if number == len(steps) else None)
            decoded = np.frombuffer(data, np.uint8)
        except (MemoryError, ValueError) as error:  # no bytes are left, or the result would be far too large
            raise DamagedChunkError(str(error)) from None
        _check_size(decoded.size, out.size)
        if data is not out:
            np.copyto(out, decoded)

    def part(self, stored: np.ndarray, num_bytes: int, skipped: int = 0) -> Callable[[int, int], np.ndarray] | None:
        """Return a function that decodes only a range of bytes of a chunk, if the filters allow that.

        Parameters
        ----------
        stored : ndarray, uint8
            The bytes of a chunk in the file; the function reads them again.
        num_bytes : int
            Size of the chunk before it was filtered.
        skipped : int
            As above.

        Returns
        -------
        callable, or None
            None if the whole chunk has to be decoded.

        Raises
        ------
        DamagedChunkError
            As above; the returned function may raise it, too.
        """
        steps = self._steps(skipped)
        if len(steps) != 1 or not isinstance(steps[0], _Bitshuffle):
            return None
        return steps[0].part(stored, num_bytes)

    def _steps(self, skipped: int) -> list[_Undo]:
        return [undo for bit, undo in self._undo if not skipped & bit]


def _check_size(num_bytes: int, wanted: int) -> None:
    if num_bytes != wanted:
        raise DamagedChunkError(f"its filters give {num_bytes} bytes instead of {wanted}")


def _undoer(item: Filter) -> _Undo:
    if item.number == DEFLATE:
        return _inflate
    if item.number == BZIP2:
        return _unpack_bzip2
    if item.number == SHUFFLE:
        return functools.partial(_unshuffle, item_bytes=item.parameters[0])
    if item.number == FLETCHER32:
        return _verify
    if item.number not in _CALLED:
        raise LookupError(item.number)
    call = functools.partial(_call, function_of(item.number), item)
    packer = {2: "lz4", 3: "zstd"}.get(item.parameters[4] if len(item.parameters) > 4 else 0)
    if item.number == BITSHUFFLE and packer and (unpack := bitshuffle_function(packer)) is not None:
        return _Bitshuffle(item, unpack, call)
    return call


def _inflate(data: object, num_bytes: int, _out: np.ndarray | None) -> bytes | bytearray:
    if deflate is not None:
        # libdeflate is nearly three times as fast, but needs an output buffer of known size, here with room for a
        # checksum. If it fails, zlib gives the reason, or succeeds with more room.
        with contextlib.suppress(deflate.DeflateError):
            return deflate.zlib_decompress(data, num_bytes + 4)
    try:
        return zlib.decompress(data, bufsize=max(1, num_bytes))
    except zlib.error as error:
        raise DamagedChunkError(f"gzip refuses it ({error})") from None


def _unpack_bzip2(data: object, _num_bytes: int, _out: np.ndarray | None) -> bytes:
    # The plugin's own function never returns from a truncated stream.
    try:
        return bz2.decompress(bytes(data))
    except (OSError, ValueError) as error:
        raise DamagedChunkError(f"bzip2 refuses it ({error})") from None


def _unshuffle(data: object, _num_bytes: int, out: np.ndarray | None, item_bytes: int) -> np.ndarray:
    planes = np.frombuffer(data, np.uint8)
    if item_bytes < 2 or planes.size < item_bytes:
        return planes
    whole = planes.size // item_bytes * item_bytes  # libhdf5 does not move bytes that do not fill an item
    out = np.empty_like(planes) if out is None or out.size != planes.size else out
    out[whole:] = planes[whole:]
    if (unshuffle := blosc2_unshuffle()) is not None:
        unshuffle(item_bytes, whole, planes.ctypes.data, out.ctypes.data)
        return out
    items = out[:whole].reshape(-1, item_bytes)
    for place, plane in enumerate(planes[:whole].reshape(item_bytes, -1)):
        items[:, place] = plane
    return out


def _verify(data: object, _num_bytes: int, _out: np.ndarray | None) -> np.ndarray:
    stored = np.frombuffer(data, np.uint8)
    if stored.size < 4 or _fletcher32(stored[:-4]) != struct.unpack("<I", stored[-4:].tobytes())[0]:
        raise DamagedChunkError("its Fletcher checksum does not fit")
    return stored[:-4]


def _fletcher32(data: np.ndarray) -> int:
    """Return libhdf5's checksum: sums modulo 65535 of big-endian 16-bit words; an odd byte is the upper half of one."""
    padded = np.concatenate([data, np.zeros(data.size % 2, np.uint8)])
    words = padded.view(">u2").astype(np.uint64)
    count = np.uint64(len(words))
    # The second sum weights each word by the number of words after it; pieces are too small to overflow 64 bits.
    weights = count - np.arange(len(words), dtype=np.uint64)
    first = int(words.sum())
    second = sum(int((words[at : at + 65536] * weights[at : at + 65536]).sum()) for at in range(0, len(words), 65536))
    return _fold(second) << 16 | _fold(first)


def _fold(total: int) -> int:
    """Reduce modulo 65535 to 1 ... 65535, as folding carries does; only the sum of no words is 0."""
    return (total - 1) % 65535 + 1 if total else 0


class _Bitshuffle:
    """Decode bitshuffle and the compression of its blocks without the two copies of HDF5's filter interface."""

    def __init__(self, item: Filter, unpack: Callable[..., int], call: _Undo) -> None:
        self._item, self._unpack, self._call = item, unpack, call

    def __call__(self, data: object, num_bytes: int, out: np.ndarray | None) -> np.ndarray:
        if out is None:
            return self._call(data, num_bytes, None)
        source = np.frombuffer(data, np.uint8)
        _, block_bytes = self._begins(source, num_bytes)
        self._write(source, _BITSHUFFLE_HEADER.size, block_bytes, out)
        return out

    def part(self, data: np.ndarray, num_bytes: int) -> Callable[[int, int], np.ndarray]:
        """Return a function that decodes a range of bytes of a chunk, reading only the blocks that contain it."""
        begins, block_bytes = self._begins(data, num_bytes)

        def read(first: int, end: int) -> np.ndarray:
            block, behind = first // block_bytes, -(-end // block_bytes)
            if block >= len(begins):
                raise DamagedChunkError("these bytes are in no block")
            start = block * block_bytes
            # Bytes that fill no block are stored behind the last one, and read with it.
            stop = behind * block_bytes if behind < len(begins) else num_bytes
            out = np.empty(stop - start, np.uint8)
            self._write(data, begins[block], block_bytes, out)
            return out[first - start : end - start]

        return read

    def _begins(self, source: np.ndarray, num_bytes: int) -> tuple[list[int], int]:
        begins = guard_bitshuffle(memoryview(source), self._item.parameters, 2 * num_bytes + 65536)
        made, block_bytes = _BITSHUFFLE_HEADER.unpack_from(source)
        _check_size(made, num_bytes)
        return begins, block_bytes // self._item.parameters[2] * self._item.parameters[2]

    def _write(self, source: np.ndarray, begin: int, block_bytes: int, out: np.ndarray) -> None:
        item_bytes = self._item.parameters[2]
        sizes = out.size // item_bytes, item_bytes, block_bytes // item_bytes
        if self._unpack(source[begin:].ctypes.data, out.ctypes.data, *sizes) < 0:
            raise DamagedChunkError(f"the filter {self._item.name!r} refuses it")


def _call(
    function: Callable[..., int], item: Filter, data: object, num_bytes: int, _out: np.ndarray | None
) -> np.ndarray:
    """Call a filter function of libhdf5's interface on a copy of `data`; the function replaces it by its result."""
    source = np.frombuffer(data, np.uint8)
    # Other filters may have to decode the result; none of them makes a chunk much larger than it was.
    limit = 2 * num_bytes + 65536
    if (guard := _CALLED[item.number]) is not None:
        guard(memoryview(source), item.parameters, limit)
    library = libc()
    buffer = ctypes.c_void_p(library.malloc(max(1, source.size)))
    size = ctypes.c_size_t(source.size)
    ctypes.memmove(buffer, source.ctypes.data, source.size)
    values = (ctypes.c_uint * max(1, len(item.parameters)))(*item.parameters)
    got = function(_REVERSE, len(item.parameters), values, source.size, ctypes.byref(size), ctypes.byref(buffer))
    # Filters report an error as 0, or as a negative number, which their interface turns into a huge one.
    made = (ctypes.c_uint8 * (got if got <= limit else 0)).from_address(buffer.value or 0)
    weakref.finalize(made, library.free, buffer.value).atexit = False
    if len(made) == 0:
        raise DamagedChunkError(f"the filter {item.name!r} refuses it")
    return np.frombuffer(made, np.uint8)
