"""Compressed chunks are decoded once while they are in use, by any number of threads, in bounded memory."""

from __future__ import annotations

import contextlib
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from kinds.spectra import write_file

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.samples import chunks
from hpctrain.samples.loader import read_ahead
from hpctrain.samples.order import WindowedOrder

N, L, ROWS = 4096, 512, 32
WINDOW = 512
SMALL_READS = 4000
"""Bytes that this process may read besides, such as its own counters; far less than any chunk here has."""


@pytest.fixture
def flux():
    return np.round(np.random.default_rng(0).normal(size=(N, L)) * 16).astype("f4") / 16


@pytest.fixture
def path(tmp_path, flux):
    layout = {"chunks": (ROWS, L), "compression": "gzip", "compression_opts": 1}
    return write_file(tmp_path / "s.h5", flux, layout, ivar=np.abs(flux))


def chunks_of(path, bands=None):
    """Return the sizes in the file of the chunks of flux and ivar: of all bands of rows, or of some [byte]."""
    with h5py.File(path) as file:
        infos = [
            dataset.id.get_chunk_info(band)
            for dataset in (file["flux"], file["ivar"])
            for band in (range(dataset.id.get_num_chunks()) if bands is None else bands)
        ]
    return [info.size for info in infos]


@contextlib.contextmanager
def read_once(sizes):
    """Check that this process reads as many bytes as these chunks have: each is read to be decoded, and only then."""
    before = bytes_read()
    yield
    assert bytes_read() - before == pytest.approx(sum(sizes), abs=SMALL_READS)


def bytes_read():
    """Return what this process has read by system calls so far; copying from a memory map is none."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


def epoch(spectra, number=0, batch=64):
    order = WindowedOrder(1, N, spectra.blocks(np.arange(N)), WINDOW)
    return list(order(number * N + np.arange(N)).reshape(-1, batch))


@pytest.mark.parametrize("threads", [0, 1, 2, 4])
def test_each_chunk_is_decoded_once_per_epoch(path, flux, threads):
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    spectra.keep_window(WINDOW)
    requests = epoch(spectra)
    with read_once(chunks_of(path)):
        for batch in read_ahead(spectra, requests, threads, depth=2):
            assert np.array_equal(batch.flux, flux[batch.row])
            assert np.array_equal(batch.ivar, np.abs(flux[batch.row]))


@pytest.mark.slow
def test_memory_is_two_windows_and_the_batches_whatever_the_size_of_the_file(path, monkeypatch):
    monkeypatch.setattr(chunks, "_KEPT_BYTES", 0)
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    spectra.keep_window(WINDOW)
    requests = epoch(spectra)
    window_bytes = 2 * WINDOW * 2 * L * 4
    batches_bytes = 6 * 64 * 2 * L * 4
    tracemalloc.start()
    for batch in read_ahead(spectra, requests, threads=2, depth=3):
        del batch
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * window_bytes + batches_bytes + 2**20
    assert peak < 0.5 * N * 2 * L * 4


@pytest.mark.slow
def test_many_files_share_the_memory_of_two_windows(tmp_path, path, monkeypatch):
    monkeypatch.setattr(chunks, "_KEPT_BYTES", 0)
    for number in range(5):
        shutil.copy(path, tmp_path / f"part-{number}.h5")
    spectra = open_spectra(SpectraSection(files=[str(tmp_path / "part-*.h5")]))
    spectra.keep_window(WINDOW)
    order = WindowedOrder(1, len(spectra), spectra.blocks(np.arange(len(spectra))), WINDOW)
    tracemalloc.start()
    for batch in read_ahead(spectra, order(np.arange(2 * N)).reshape(-1, 64), threads=2, depth=3):
        del batch
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.3 * 2 * WINDOW * 2 * L * 4 + 6 * 64 * 2 * L * 4 + 2**20


def test_rows_from_more_chunks_than_are_kept_come_back_right(path, flux, monkeypatch):
    monkeypatch.setattr(chunks, "_KEPT_BYTES", 0)
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    rows = np.random.default_rng(1).integers(0, N, 500)
    assert np.array_equal(spectra.read(rows).flux, flux[rows])


def test_many_threads_that_want_the_same_few_chunks_wait_for_one_decoding(path, flux):
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    rows = np.arange(0, 4 * ROWS)
    with read_once(chunks_of(path, range(4))), ThreadPoolExecutor(8) as pool:
        for batch in pool.map(lambda _: spectra.read(rows), range(40)):
            assert np.array_equal(batch.flux, flux[rows])


def test_a_damaged_chunk_is_an_error_where_its_rows_are_read_and_nowhere_else(path, flux):
    with h5py.File(path) as file:
        info = file["flux"].id.get_chunk_info(5)
    with open(path, "r+b") as stream:
        stream.seek(info.byte_offset + info.size // 2)
        stream.write(b"\0" * 64)
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    for _ in range(2):  # and again, when it is asked for again
        with pytest.raises(DataError, match=f"rows {5 * ROWS} to {6 * ROWS - 1} cannot be read: the chunk at byte"):
            spectra.read(np.array([0, 5 * ROWS + 3]))
    rows = np.setdiff1d(np.arange(0, N, 7), np.arange(5 * ROWS, 6 * ROWS))
    assert np.array_equal(spectra.read(rows).flux, flux[rows])


@pytest.mark.parametrize("cname", ["lz4", "zstd"])
def test_the_first_batch_of_bitshuffle_decodes_only_the_blocks_of_its_rows(tmp_path, cname):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    # 1,003 pixels: rows end within blocks, and the last pixels of a chunk fill none.
    values = np.random.default_rng(0).normal(size=(1000, 1003)).astype("f4")
    layout = {"chunks": (101, 1003), **hdf5plugin.Bitshuffle(cname=cname)}
    write_file(tmp_path / "s.h5", np.abs(values), layout, ivar=np.abs(values))
    for seed in range(4):
        spectra = open_spectra(SpectraSection(files=[str(tmp_path / "s.h5")]))
        rows = np.concatenate([[100, 0, 999, 908, 201], np.random.default_rng(seed).permutation(1000)[:30]])
        with read_once([]):  # these blocks are copied from the memory map
            batch = spectra.read(rows)
        assert np.array_equal(batch.flux, np.abs(values[rows]))
        assert np.array_equal(batch.ivar, np.abs(values[rows]))
        with read_once(chunks_of(tmp_path / "s.h5")):
            again = spectra.read(rows)
        assert np.array_equal(again.flux, batch.flux)
