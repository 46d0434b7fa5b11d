"""Check the sizes in front of compressed bytes before a decoder written in C uses them.

The filter plugins of HDF5 trust the sizes that they find in a chunk. For a damaged chunk, bitshuffle and LZ4 read
beyond its end, which kills the process, and Zstandard may allocate any amount of memory. Each guard here reads the same
sizes as its decoder and rejects those that lead outside the chunk. The decoders check everything else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_BLOCK_BYTES = struct.Struct(">I")


class DamagedChunkError(Exception):
    """The bytes of a chunk are not valid output of its filter."""


def guard_bitshuffle(data: memoryview, parameters: Sequence[int], limit: int) -> list[int]:
    """Check a chunk of bitshuffle: alone, or followed by LZ4 or Zstandard in blocks.

    Parameters
    ----------
    data : memoryview
        Input of the decoder.
    parameters : sequence of int
        Parameters of the filter: two numbers of its version, bytes of an item, items of a block, and compression.
    limit : int
        Largest number of bytes that the decoder may return.

    Returns
    -------
    list of int
        Position at which each packed block begins.

    Raises
    ------
    DamagedChunkError
    """
    item_bytes = parameters[2] if len(parameters) > 2 else 0
    block_items = parameters[3] if len(parameters) > 3 else 0
    if not 0 < item_bytes <= limit or block_items % 8:
        raise DamagedChunkError(f"bitshuffle cannot have made blocks of {block_items} items of {item_bytes} bytes")
    if len(parameters) < 5 or parameters[4] == 0:
        if len(data) % item_bytes:
            raise DamagedChunkError(f"bitshuffle cannot have left {len(data)} bytes of items of {item_bytes}")
        return []
    num_bytes, block_bytes = _sizes(data, ">QI", "bitshuffle")
    block_items = block_bytes // item_bytes
    if num_bytes > limit or num_bytes % item_bytes or block_items == 0 or block_items % 8:
        raise DamagedChunkError(f"bitshuffle says {num_bytes} bytes in blocks of {block_bytes}")
    items = num_bytes // item_bytes
    num_blocks = items // block_items + (items % block_items >= 8)
    return _walk(data, 12, num_blocks, (items % 8) * item_bytes, "bitshuffle")


def guard_lz4(data: memoryview, _parameters: Sequence[int], limit: int) -> None:
    """Check a chunk of LZ4 blocks; parameters as above."""
    num_bytes, block_bytes = _sizes(data, ">QI", "LZ4")
    if not 0 < num_bytes <= limit or block_bytes == 0:
        raise DamagedChunkError(f"LZ4 says {num_bytes} bytes in blocks of {block_bytes}")
    _walk(data, 12, -(-num_bytes // block_bytes), 0, "LZ4")


def guard_blosc(data: memoryview, _parameters: Sequence[int], limit: int) -> None:
    """Check the header of a Blosc 1 chunk; parameters as above."""
    num_bytes, _, packed_bytes = _sizes(data[4:], "<III", "Blosc")
    if num_bytes > limit or not 16 <= packed_bytes <= len(data):
        raise DamagedChunkError(f"Blosc says {packed_bytes} bytes hold {num_bytes}")


def guard_zstd(data: memoryview, _parameters: Sequence[int], limit: int) -> None:
    """Check the header of a Zstandard frame; parameters as above.

    References
    ----------
    .. [1] RFC 8878, section 3.1.1.1.
    """
    magic, descriptor = _sizes(data, "<IB", "Zstandard")
    if magic != 0xFD2FB528:
        raise DamagedChunkError("it is no Zstandard frame")
    is_single = descriptor >> 5 & 1
    at = 5 + (not is_single) + (0, 1, 2, 4)[descriptor & 3]
    form = (("B" if is_single else ""), "H", "I", "Q")[descriptor >> 6]
    if not form:
        raise DamagedChunkError("its Zstandard frame does not say how much it holds")
    (num_bytes,) = _sizes(data[at:], f"<{form}", "Zstandard")
    num_bytes += 256 if form == "H" else 0
    if num_bytes > limit:
        raise DamagedChunkError(f"Zstandard says it holds {num_bytes} bytes")


def _sizes(data: memoryview, form: str, who: str) -> tuple[int, ...]:
    if len(data) < struct.calcsize(form):
        raise DamagedChunkError(f"it ends within the header of {who}")
    return struct.unpack_from(form, data)


def _walk(data: memoryview, at: int, num_blocks: int, rest_bytes: int, who: str) -> list[int]:
    """Follow blocks that begin with their size; all of them and the rest behind them must be inside the chunk."""
    end = len(data)
    found = []
    size_at = _BLOCK_BYTES.unpack_from
    for _ in range(num_blocks):
        if at + 4 > end:
            break
        found.append(at)
        at += 4 + size_at(data, at)[0]
    else:
        if at + rest_bytes <= end:
            return found
    raise DamagedChunkError(f"a block of {who} leads beyond its end")
