"""Read rows of a compressed dataset: threads decode each chunk once and keep it while its rows are used."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.samples.buffers import BoundedPool
from hpctrain.samples.filters import DamagedChunkError, Pipeline
from hpctrain.samples.mapped import MappedFile, gather

_KEPT_BYTES = 64 * 2**20
"""Default number of decoded rows to keep."""

_LEAST_BANDS = 4
"""Smallest number of bands that are decoded together."""


@dataclass(frozen=True)
class ChunkTable:
    """Positions of the chunks of an (N, L) dataset in the file. It has B bands of rows with C chunks side by side.

    Rows may have more axes where a chunk holds whole rows; then C is 1.

    Parameters
    ----------
    offset : ndarray, shape (B, C), int64
        Position of the first byte; -1 for a chunk that was never written.
    num_bytes : ndarray, shape (B, C), int64
        Size of the stored chunk.
    skipped : ndarray, shape (B, C), int64
        Bit mask of the filters that were not applied.
    """

    offset: np.ndarray
    num_bytes: np.ndarray
    skipped: np.ndarray

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> ChunkTable:
        """Read the positions from libhdf5 once.

        Raises
        ------
        DataError
            The index of the chunks is damaged.
        """
        shape = tuple(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
        shape = shape[:2]
        table = cls(np.full(shape, -1, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64))

        # Plain numbers in one list: thousands of tuples would wake the garbage collector, which takes far longer.
        found: list[int] = []

        def note(info: h5py.h5d.StoreInfo) -> None:
            found.extend(info.chunk_offset)
            found.extend((info.byte_offset, info.size, info.filter_mask))

        if hasattr(dataset.id, "chunk_iter"):
            dataset.id.chunk_iter(note)
        else:  # libhdf5 before 1.12.3
            for chunk in range(dataset.id.get_num_chunks()):
                note(dataset.id.get_chunk_info(chunk))
        if not found:
            return table
        numbers = np.array(found, np.uint64).astype(np.int64).reshape(-1, dataset.ndim + 3)
        corner = numbers[:, : dataset.ndim]
        place = corner // dataset.chunks
        # libhdf5 walks every kind of index in the order of the chunks. The oldest kind has no checksum: without this
        # check, a chunk whose position was changed could hide another one or fill a hole.
        is_number = (numbers >= 0).all(axis=1)  # numbers beyond 2^63 became negative
        is_inside = (corner < dataset.shape).all(axis=1)
        is_aligned = (corner == place * dataset.chunks).all(axis=1)
        number = place[:, 0] * shape[1] + place[:, 1]
        is_next = np.diff(number, prepend=-1) > 0
        wrong = np.flatnonzero(~(is_number & is_inside & is_aligned & is_next))
        if wrong.size:
            first = int(wrong[0])
            before = tuple(corner[first - 1].tolist()) if first else (-1,)
            raise DataError(
                f"{dataset.file.filename}: {dataset.name.lstrip('/')}: its index of chunks is damaged: after the "
                f"one at {before} comes one at {tuple(corner[first].tolist())}"
            )
        for column, values in zip((table.offset, table.num_bytes, table.skipped), numbers.T[-3:], strict=True):
            column.flat[number] = values
        return table


_FEW = 4
"""Inverse of the share of rows of a band above which the whole band is decoded."""

Band = tuple["DecodedRows", int]
"""A dataset and the number of one of its bands."""


class BandCache:
    """Cache of decoded bands of some datasets; the least recently used ones make room for others."""

    def __init__(self) -> None:
        self.max_bytes = _KEPT_BYTES
        self._memory = BoundedPool()
        self._lock = threading.Lock()
        self._bands: OrderedDict[Band, Future[np.ndarray]] = OrderedDict()
        self._num_bytes = 0

    def claim(self, bands: list[Band]) -> tuple[list[Future[np.ndarray]], list[tuple[Band, Future[np.ndarray]]]]:
        """Return the future of each band, and those bands that the caller has to decode."""
        mine = []
        with self._lock:
            for band in bands:
                if band in self._bands:
                    self._bands.move_to_end(band)
                else:
                    self._bands[band] = Future()
                    self._num_bytes += band[0].band_bytes
                    mine.append((band, self._bands[band]))
            futures = [self._bands[band] for band in bands]
            while self._num_bytes > self.max_bytes and self._bands:
                (reader, _), _ = self._bands.popitem(last=False)  # a caller that holds the band can still use it
                self._num_bytes -= reader.band_bytes
        return futures, mine

    def lend(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return memory for a band; it reuses that of evicted bands."""
        self._memory.max_bytes = self.max_bytes
        return self._memory.lend(shape, dtype)

    def drop(self, band: Band, decoded: Future[np.ndarray]) -> None:
        """Remove a band that could not be decoded, so that the next request tries again."""
        with self._lock:
            if self._bands.get(band) is decoded:
                del self._bands[band]
                self._num_bytes -= band[0].band_bytes


class DecodedRows:
    """Rows of a dataset whose chunks have to be decoded.

    Parameters
    ----------
    file : MappedFile
    dataset : h5py.Dataset
        The open dataset; it is not kept.
    pipeline : Pipeline
        Filters of the dataset.

    Attributes
    ----------
    band_rows : int
        Number of rows that are decoded together.
    band_bytes : int
        Memory of these rows [byte].
    cache : BandCache
        Cache of this reader, until a shared one replaces it.
    """

    def __init__(self, file: MappedFile, dataset: h5py.Dataset, pipeline: Pipeline) -> None:
        self._file, self._name, self._pipeline = file, dataset.name, pipeline
        self._dtype = dataset.dtype
        length, width = math.prod(dataset.shape[1:]), math.prod(dataset.chunks[1:])
        self._shape, self._chunks = (dataset.shape[0], length), (dataset.chunks[0], width)
        self._fill = dataset.fillvalue
        self._table = ChunkTable.of(dataset)
        self.band_rows: int = dataset.chunks[0]
        self._row_bytes = length * dataset.dtype.itemsize
        self.band_bytes: int = self._row_bytes * self.band_rows
        self.cache = BandCache()
        self._is_begun = False

    def take(self, rows: np.ndarray, out: np.ndarray, pool: Executor | None) -> None:
        """Write rows, in any order, to `out`, shape (n, L), of the dataset's dtype.

        Raises
        ------
        DataError
            A chunk is damaged.
        """
        bands, within = np.divmod(rows, self.band_rows)
        wanted, which = np.unique(bands, return_inverse=True)
        is_first, self._is_begun = not self._is_begun, True
        are_few = _FEW * len(rows) <= len(wanted) * self.band_rows
        if is_first and are_few and pool is not None and self._take_alone(wanted, which, within, out):
            return
        # If more bands are needed than are kept, a few at a time are decoded, so that memory stays bounded.
        at_once = max(_LEAST_BANDS, self.cache.max_bytes // self.band_bytes)
        for start in range(0, len(wanted), at_once):
            decoded = self._decoded(wanted[start : start + at_once].tolist(), pool)
            begins = np.array([band.ctypes.data for band in decoded])
            if len(decoded) == len(wanted):
                gather(begins[which] + within * self._row_bytes, out.view(np.uint8))
                continue
            places = np.flatnonzero((which >= start) & (which < start + len(decoded)))
            found = np.empty((len(places), out.shape[1]), out.dtype)
            gather(begins[which[places] - start] + within[places] * self._row_bytes, found.view(np.uint8))
            out[places] = found

    def _take_alone(self, wanted: np.ndarray, which: np.ndarray, within: np.ndarray, out: np.ndarray) -> bool:
        """Decode only the parts that contain the rows, instead of whole bands; return whether that was possible.

        Used for the first batch, which needs only few rows of each band of its window.
        """
        offsets = self._table.offset[wanted, 0]
        if self._chunks[1] != self._shape[1] or offsets.min() < 0 or not self._file.is_in_memory(offsets):
            return False
        rows = out.view(np.uint8)
        for number, band in enumerate(wanted.tolist()):
            offset, stored_bytes = int(self._table.offset[band, 0]), int(self._table.num_bytes[band, 0])
            # From the memory map: most of the chunk is not read.
            stored = self._file.bytes[offset : offset + stored_bytes]
            try:
                read = self._pipeline.part(stored, self.band_bytes, int(self._table.skipped[band, 0]))
                if read is None:
                    return False
                for place in np.flatnonzero(which == number).tolist():
                    begin = int(within[place]) * self._row_bytes
                    rows[place] = read(begin, begin + self._row_bytes)
            except DamagedChunkError:  # decoding the whole band finds the damage again and reports it
                return False
        return True

    def prepare(self, rows: np.ndarray, pool: Executor) -> None:
        """Start decoding the bands of rows, in the order in which they will be needed."""
        bands = rows // self.band_rows
        _, first = np.unique(bands, return_index=True)
        for (_, band), decoded in self.cache.claim([(self, band) for band in bands[np.sort(first)].tolist()])[1]:
            pool.submit(self._decode, band, decoded)

    def _decoded(self, bands: list[int], pool: Executor | None) -> list[np.ndarray]:
        """Return decoded bands; they stay in memory while the caller holds them, in the cache or not."""
        futures, mine = self.cache.claim([(self, band) for band in bands])
        if pool is not None:
            for (_, band), decoded in mine[1:]:
                pool.submit(self._decode, band, decoded)
            del mine[1:]
        for (_, band), decoded in mine:  # otherwise this thread would only wait
            self._decode(band, decoded)
        return [decoded.result() for decoded in futures]

    def _decode(self, band: int, decoded: Future[np.ndarray]) -> None:
        """Decode a band; an error is raised only when the band is requested."""
        try:
            decoded.set_result(self._read_band(band))
        except BaseException as error:
            self.cache.drop((self, band), decoded)
            decoded.set_exception(error)

    def _read_band(self, band: int) -> np.ndarray:
        """Return the rows of a band, shape (rows of a chunk, L), dtype of the file."""
        height, width = self._chunks
        rows = self.cache.lend((height, self._shape[1]), self._dtype)
        if width == self._shape[1] and self._table.offset[band, 0] >= 0:
            self._read_chunk(band, 0, rows)
            return rows
        chunk = np.empty(self._chunks, self._dtype)
        for column in range(self._table.offset.shape[1]):
            target = rows[:, column * width : (column + 1) * width]
            if self._table.offset[band, column] < 0:
                target[...] = self._fill
                continue
            self._read_chunk(band, column, chunk)
            target[...] = chunk[:, : target.shape[1]]
        return rows

    def _read_chunk(self, band: int, column: int, out: np.ndarray) -> None:
        offset, stored_bytes = int(self._table.offset[band, column]), int(self._table.num_bytes[band, column])
        stored = self._file.read(offset, stored_bytes)
        try:
            if len(stored) < stored_bytes:
                raise DamagedChunkError("the file ends within it; it is truncated")
            self._pipeline.decode_into(stored, out.reshape(-1).view(np.uint8), int(self._table.skipped[band, column]))
        except DamagedChunkError as error:
            first = band * self.band_rows
            last = min(first + self.band_rows, self._shape[0]) - 1
            raise DataError(
                f"{self._file.path}: {self._name}: rows {first} to {last} cannot be read: the chunk at byte "
                f"{offset} is damaged: {error}"
            ) from None
