"""Reading ahead changes when bytes are copied, and nothing else."""

import threading

import h5py
import numpy as np
import pytest
from kinds.spectra import write_file
from processes import wait_until

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.samples.loader import read_ahead
from hpctrain.samples.order import sample_order

N, L = 300, 64


@pytest.fixture
def spectra(tmp_path):
    path = write_file(tmp_path / "s.h5", np.random.default_rng(0).normal(size=(N, L)).astype("f4"))
    return open_spectra(SpectraSection(files=[str(path)]))


def requests(count=40, size=16):
    return [sample_order(1, N, np.arange(i * size, (i + 1) * size)) for i in range(count)]


def reader_threads():
    return {thread for thread in threading.enumerate() if thread.name.startswith("read-spectra")}


@pytest.fixture
def threads_end():
    """Return a function that waits for the end of the threads that this test has started.

    A loader of another test may still have threads, until Python has collected it.
    """
    before = reader_threads()
    return lambda: wait_until(lambda: not reader_threads() - before, "the end of the reading threads")


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
@pytest.mark.parametrize("depth", [1, 3, 100])
def test_batches_are_the_same_and_in_order_for_any_number_of_threads(spectra, threads_end, threads, depth):
    expected = [spectra.read(rows).flux.clone() for rows in requests()]
    for batch, rows, flux in zip(read_ahead(spectra, requests(), threads, depth), requests(), expected, strict=True):
        assert batch.row.tolist() == rows.tolist()
        assert np.array_equal(batch.flux, flux)
    threads_end()


def test_batches_that_are_kept_stay_as_they_were(spectra):
    """Memory of a batch is used again only when nobody holds it."""
    kept = list(read_ahead(spectra, requests(), threads=3, depth=4))
    for batch, rows in zip(kept, requests(), strict=True):
        assert np.array_equal(batch.flux, spectra.read(rows).flux)


def test_no_more_than_depth_requests_are_drawn_ahead(spectra, threads_end):
    drawn = []

    def endless():
        position = 0
        while True:
            drawn.append(position)
            yield np.arange(position, position + 4) % N
            position += 4

    loader = read_ahead(spectra, endless(), threads=2, depth=3)
    for number in range(1, 10):
        next(loader)
        # Where the file system does not say what is in memory, the loader announces requests, as on a slow one.
        assert len(drawn) <= number + 3 + spectra.batches_ahead(4)
    loader.close()
    threads_end()


def test_an_error_in_a_thread_surfaces_at_its_batch(tmp_path, threads_end):
    write_file(tmp_path / "s.h5", np.ones((N, L), "f4"), {"chunks": (1, L), "fletcher32": True})
    with h5py.File(tmp_path / "s.h5") as file:
        chunk = file["flux"].id.get_chunk_info(37)
    with open(tmp_path / "s.h5", "r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"damaged")
    spectra = open_spectra(SpectraSection(files=[str(tmp_path / "s.h5")]))
    loader = read_ahead(spectra, [np.arange(i, i + 10) for i in range(0, N, 10)], threads=2, depth=6)
    for expected in (0, 10, 20):
        assert next(loader).row[0] == expected
    with pytest.raises(DataError, match="cannot be read"):
        next(loader)
    threads_end()


def test_leaving_the_loop_early_stops_the_threads(spectra, threads_end):
    left = iter(requests(300))
    for _ in read_ahead(spectra, left, threads=2, depth=50):
        break
    # The generator is closed as soon as nothing refers to it.
    threads_end()
    assert list(left)  # they did not end because nothing was left to read


def test_no_requests_give_no_batches(spectra):
    assert list(read_ahead(spectra, [], threads=2, depth=2)) == []
