"""Keep decoded spectra in an anonymous file in memory that several processes share.

The kernel frees the memory when the last process that has the file open ends, even if it is killed. So nothing stays on
a node, as could happen in /dev/shm. The file is ordinary HDF5, so the usual reader reads it.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from hpctrain.errors import DataError, SiteError
from hpctrain.kinds.spectra.files import open_file
from hpctrain.kinds.spectra.hdf5 import SpectraSet
from hpctrain.kinds.spectra.section import ColumnsSection
from hpctrain.samples.activity import Activity

_PIECE_BYTES = 16 * 2**20
"""Size of the piece that a thread decodes at a time."""


def needed_bytes(source: SpectraSet, rows: np.ndarray) -> int:
    """Return the memory that a copy of some rows takes."""
    probe = source.read(rows[:1])
    wide = [probe.flux, probe.ivar] + ([probe.wavelength_aa] if source.wavelength_aa is None else [])
    num_rows = len(rows) if source.wavelength_aa is not None else len(source)
    return num_rows * sum(column[0].numel() * column.element_size() for column in wide) + len(source) * 12


def copy_to_memory(source: SpectraSet, rows: np.ndarray, num_threads: int, activity: Activity) -> int:
    """Decode spectra into a file in memory.

    Rows keep their numbers; rows that are not in `rows` are holes in the file, which take no memory.

    Parameters
    ----------
    source : SpectraSet
    rows : ndarray, shape (n,), int64
        Sorted rows that will be read.
    num_threads : int
        Number of threads that decode.
    activity : Activity
        Is notified of every piece.

    Returns
    -------
    int
        Descriptor of the file; the memory exists as long as it, or a map of the file, is open.

    Raises
    ------
    DataError
        A row cannot be read.
    SiteError
        This system does not support such files.
    WorkCancelledError
        The activity was cancelled.
    """
    if not hasattr(os, "memfd_create"):
        raise SiteError("data.cache: ram needs Linux")
    if source.wavelength_aa is None:
        rows = np.arange(len(source))  # the reader compares the grids of some rows, which must not be holes
    descriptor = os.memfd_create("hpctrain-spectra", os.MFD_CLOEXEC)
    try:
        offsets = _write_layout(descriptor, source, rows[:1])
        memory = np.frombuffer(mmap.mmap(descriptor, 0), np.uint8)
        columns = {
            name: memory[offset : offset + len(source) * source.num_pixels * dtype.itemsize]
            .view(dtype)
            .reshape(len(source), -1)
            for name, (offset, dtype) in offsets.items()
        }
        activity.total_bytes += len(rows) * _row_bytes(columns)
        pieces = list(_pieces(source, rows, max(1, _PIECE_BYTES // _row_bytes(columns))))
        source.keep_window(num_threads * max(len(piece) for piece in pieces))
        with ThreadPoolExecutor(num_threads, thread_name_prefix="cache") as pool:
            futures = [pool.submit(_copy_piece, source, piece, columns, activity) for piece in pieces]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_in_memory(path: Path, source: SpectraSet) -> SpectraSet:
    """Open a copy in memory as a set with the same rows as the original.

    Parameters
    ----------
    path : Path
        ``/proc/self/fd/N`` of the descriptor, or that of another process of this user on this node. This process then
        has its own descriptor.
    source : SpectraSet
        The original set.

    Raises
    ------
    SiteError
        The other process cannot be reached.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise SiteError(
            f"data.cache: ram: the memory of another rank of this node cannot be opened ({path}: {error.strerror}); "
            "do ranks run in containers with process numbers of their own?"
        ) from None
    files = [open_file(Path(f"/proc/self/fd/{descriptor}"), ColumnsSection(mask=None))]
    copy = SpectraSet(files, source.needs_redshift)
    weakref.finalize(copy, os.close, descriptor).atexit = False  # until then its path leads to the memory
    copy.copy_of = source.fingerprint()
    copy.notes, copy.labels = source.notes, source.labels
    if len(copy) != len(source) or copy.num_pixels != source.num_pixels:
        raise DataError(
            "data.cache: ram: the copy was made from other files; do all ranks of the node see the same files?"
        )
    return copy


def _row_bytes(columns: dict[str, np.ndarray]) -> int:
    return sum(column[0].nbytes for column in columns.values())


def _write_layout(descriptor: int, source: SpectraSet, row: np.ndarray) -> dict[str, tuple[int, np.dtype]]:
    """Write everything except the pixels, and return the position and dtype of the pixels of each column."""
    probe = source.read(row)
    wide = {"flux": probe.flux.numpy().dtype, "ivar": probe.ivar.numpy().dtype}
    with os.fdopen(os.dup(descriptor), "r+b", buffering=0) as stream, h5py.File(stream, "w") as file:
        file["target_id"] = source.target_id
        file["redshift"] = np.where(source.has_redshift, source.redshift, np.float32(np.nan))
        if source.wavelength_aa is None:
            wide["wavelength"] = probe.wavelength_aa.numpy().dtype
        else:
            file["wavelength"] = source.wavelength_aa
        offsets = {}
        for name, dtype in wide.items():
            # Space is allocated at once but not filled: only pixels that are written later take memory.
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            shape = h5py.h5s.create_simple((len(source), source.num_pixels))
            dataset = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype), shape, layout)
            offsets[name] = (dataset.get_offset(), dtype)
    return offsets


def _pieces(source: SpectraSet, rows: np.ndarray, num_rows: int) -> Iterator[np.ndarray]:
    """Yield the rows in pieces of at least `num_rows` that do not split a chunk."""
    starts = source.blocks(rows)
    begin = 0
    for start in [*starts[1:].tolist(), len(rows)]:
        if start - begin >= num_rows or start == len(rows):
            yield rows[begin:start]
            begin = start


def _copy_piece(source: SpectraSet, rows: np.ndarray, columns: dict[str, np.ndarray], activity: Activity) -> None:
    activity.check()
    batch = source.read(rows)
    values = {"flux": batch.flux, "ivar": batch.ivar, "wavelength": batch.wavelength_aa}
    is_run = rows[-1] - rows[0] + 1 == len(rows)
    places = slice(rows[0], rows[-1] + 1) if is_run else rows  # numpy copies a slice without the interpreter's lock
    for name, column in columns.items():
        column[places] = values[name].numpy()
    activity.moved(len(rows) * _row_bytes(columns))
