"""Read a few rows of one dataset of an HDF5 file at a time, in many threads. A row may have several axes.

libhdf5 serves one thread at a time, so it is used once, to find the position of the data. After that, rows of an
uncompressed dataset are copied out of a memory map, and chunks of a compressed one are decoded in threads. Only
datasets for which neither is possible (virtual, external or compact ones, filters without a plugin) are read through
libhdf5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.samples.chunks import BandCache, ChunkTable, DecodedRows
from hpctrain.samples.elsewhere import check_filters, check_sources, refuse_plugins
from hpctrain.samples.filters import Pipeline
from hpctrain.samples.library import LibraryFile
from hpctrain.samples.mapped import MappedFile, gather
from hpctrain.samples.scaling import Scaling

AS_THEY_ARE = (np.dtype("=f4"), np.dtype("=f2"))
"""Types whose values are copied as the file has them."""


class RowReader:
    """Rows of one dataset (N, L) or (N, ...), whose L values per row are read as one line.

    Parameters
    ----------
    library : LibraryFile
        Handle of libhdf5 on the file.
    mapped : MappedFile
        The same file as memory.
    dataset : h5py.Dataset
        The open dataset; it is not kept.
    as_they_are : sequence of dtype
        Types that :meth:`take` does not convert to float32, where the file gives no scale.

    Attributes
    ----------
    dtype : dtype
        The dtype in the file.
    out_dtype : dtype
        The dtype that :meth:`take` writes: that of the file if it is among `as_they_are`, else float32.
    shape : tuple of int
    row_length : int
        L.
    """

    def __init__(
        self,
        library: LibraryFile,
        mapped: MappedFile,
        dataset: h5py.Dataset,
        as_they_are: Sequence[np.dtype] = AS_THEY_ARE,
    ) -> None:
        self._library = library
        self._mapped = mapped
        self._name = dataset.name
        self.dtype = dataset.dtype
        self.shape = dataset.shape
        self.row_length = math.prod(dataset.shape[1:])
        self._scaling = Scaling.of(dataset)
        self._is_plain = self.dtype in as_they_are and self._scaling == Scaling()
        self.out_dtype = self.dtype if self._is_plain else np.dtype(np.float32)
        self._row_bytes = self.row_length * self.dtype.itemsize
        self._block: np.ndarray | None = None
        """All rows as bytes of the file, shape (N, row bytes), uint8; None unless they are one block."""
        self._chunk_address: np.ndarray | None = None
        """Address of each chunk in memory; None unless chunks hold whole rows and are not compressed."""
        self._decoded: DecodedRows | None = None
        self._find(dataset)

    def _find(self, dataset: h5py.Dataset) -> None:
        """Choose how to read the rows, and check that the data can be read."""
        where = f"{self._mapped.path}: {self._name.lstrip('/')}"
        check_sources(dataset, where)
        if dataset.is_virtual:
            return
        if h5py.h5t.py_create(dataset.dtype, logical=True) != dataset.id.get_type():
            return  # libhdf5 converts types that numpy does not have
        if dataset.maxshape[0] is not None and dataset.maxshape[1] is None:
            # For such a dataset libhdf5 (at least up to 2.0) reports wrong positions of chunks, but reads the right
            # ones.
            check_filters(dataset, where)
            refuse_plugins(dataset, where)
            return
        if dataset.chunks is None:
            offset = dataset.id.get_offset()
            if offset is not None:  # None: compact, or never written
                self._check_end(offset + self.shape[0] * self._row_bytes)
                # As bytes: numpy copies rows of another byte order or an odd offset only after converting the whole.
                whole = self._mapped.bytes[offset : offset + self.shape[0] * self._row_bytes]
                self._block = whole.reshape(self.shape[0], self._row_bytes)
            return
        has_whole_rows = dataset.chunks[1:] == self.shape[1:]
        try:
            pipeline = Pipeline.of(dataset)
        except LookupError:
            check_filters(dataset, where)
            return
        if dataset.ndim > 2 and not has_whole_rows:
            return  # a row is in chunks along several axes
        if dataset.id.get_create_plist().get_nfilters() == 0 and has_whole_rows:
            table = ChunkTable.of(dataset)
            if (table.offset >= 0).all():
                self._check_end(int(table.offset.max(initial=0)) + dataset.chunks[0] * self._row_bytes)
                self._chunk_address = self._mapped.address + table.offset[:, 0]
                self._chunk_rows = dataset.chunks[0]
                return
        self._decoded = DecodedRows(self._mapped, dataset, pipeline)

    def _check_end(self, end: int) -> None:
        if end > self._mapped.num_bytes:
            raise DataError(f"{self._mapped.path}: {self._name}: ends beyond the end of the file; it is truncated")

    @property
    def way(self) -> str:
        """How rows are read: ``block``, ``chunks`` (both from a memory map), ``decoded`` or ``libhdf5``."""
        if self._block is not None:
            return "block"
        if self._chunk_address is not None:
            return "chunks"
        return "libhdf5" if self._decoded is None else "decoded"

    @property
    def decoded_bytes(self) -> int:
        """Size of a decoded row [byte] if rows have to be decoded before they can be read; otherwise 0."""
        return self._row_bytes if self._decoded is not None else 0

    @property
    def band_rows(self) -> int:
        """Number of rows that are decoded together; 1 if each row can be read alone."""
        if self._decoded is not None:
            return self._decoded.band_rows
        return 1 if self._block is not None or self._chunk_address is not None else 64

    def check(self) -> None:
        """Check that the file has not changed since it was opened."""
        self._mapped.check()

    def addresses(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the addresses of rows that are in memory as :meth:`take` would write them; otherwise None."""
        if not self._is_plain:
            return None
        return self._stored_addresses(rows)

    def _stored_addresses(self, rows: np.ndarray) -> np.ndarray | None:
        if self._block is not None:
            return self._block.ctypes.data + rows * self._row_bytes
        if self._chunk_address is not None:
            chunk, within = np.divmod(rows, self._chunk_rows)
            return self._chunk_address[chunk] + within * self._row_bytes
        return None

    def is_in_memory(self, rows: np.ndarray) -> bool:
        """Return whether rows are in the page cache, or are read in a way that does not use it."""
        addresses = self._stored_addresses(rows)
        return addresses is None or self._mapped.is_in_memory(addresses - self._mapped.address)

    def keep_rows(self, num_rows: int) -> None:
        """Keep up to `num_rows` decoded rows, if rows have to be decoded."""
        if self._decoded is not None:
            cache = self._decoded.cache
            cache.max_bytes = max(cache.max_bytes, num_rows * self._row_bytes)

    def share(self, cache: BandCache) -> None:
        """Keep decoded rows in a cache that several datasets share."""
        if self._decoded is not None:
            self._decoded.cache = cache

    def prepare(self, rows: np.ndarray, pool: Executor | None, is_cold: bool) -> None:
        """Prefetch rows: start decoding their chunks, or reading them from a slow disk."""
        if self._decoded is not None and pool is not None:
            self._decoded.prepare(rows, pool)
        elif is_cold and (addresses := self._stored_addresses(rows)) is not None:
            self._mapped.will_need(addresses - self._mapped.address, self._row_bytes)

    def take(self, rows: np.ndarray, out: np.ndarray, pool: Executor | None = None) -> None:
        """Write rows of the dataset to `out`.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
            Rows in any order; they may repeat.
        out : ndarray, shape (n, L)
            Array to fill; C-contiguous, of `out_dtype` or float32.
        pool : Executor, optional
            Threads that decode chunks.

        Raises
        ------
        DataError
            The file has changed, or these rows are damaged.
        """
        if self._is_plain and out.dtype == self.dtype:
            self._take_stored(rows, out, pool)
        else:
            self._scaling.apply(self.take_stored(rows, pool), out)

    def take_stored(self, rows: np.ndarray, pool: Executor | None = None) -> np.ndarray:
        """Return rows without conversion, shape (n, L), dtype of the file."""
        stored = np.empty((len(rows), self.row_length), dtype=self.dtype)
        self._take_stored(rows, stored, pool)
        return stored

    def _take_stored(self, rows: np.ndarray, out: np.ndarray, pool: Executor | None) -> None:
        self._mapped.check()
        if self._block is not None:
            # With "clip" numpy writes to `out` directly; all rows are known to be in range.
            np.take(self._block, rows, axis=0, out=out.view(np.uint8), mode="clip")
        elif (addresses := self._stored_addresses(rows)) is not None:
            gather(addresses, out.view(np.uint8))
        elif self._decoded is not None:
            self._decoded.take(rows, out, pool)
        else:
            self._take_from_library(rows, out)

    def _take_from_library(self, rows: np.ndarray, out: np.ndarray) -> None:
        unique, back = np.unique(rows, return_inverse=True)
        try:
            with self._library.dataset(self._name) as dataset:
                found = dataset[unique].reshape(len(unique), self.row_length)
        except (LookupError, MemoryError, OSError, RuntimeError, ValueError) as error:
            raise DataError(
                f"{self._library.path}: {self._name}: rows {unique[0]} to {unique[-1]} cannot be read ({error}); the "
                "file is damaged"
            ) from error
        np.take(found, back, axis=0, out=out)
