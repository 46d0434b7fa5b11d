"""A file that is not in memory is recognised, and its disk told of rows before they are read."""

from __future__ import annotations

import os

import numpy as np
import pytest
from kinds.spectra import write_file

from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.samples import mapped
from hpctrain.samples.loader import read_ahead
from hpctrain.samples.mapped import MappedFile

N, L = 600, 7781


@pytest.fixture
def path(tmp_path):
    return write_file(tmp_path / "s.h5", np.arange(N * L, dtype="f4").reshape(N, L))


@pytest.fixture
def asked(monkeypatch):
    """First byte and number of bytes of all that the system was asked to fetch."""
    seen = []

    def note(descriptor, offset, num_bytes, advice, advise=os.posix_fadvise):
        seen.append((offset, num_bytes))
        advise(descriptor, offset, num_bytes, advice)

    monkeypatch.setattr(os, "posix_fadvise", note)
    return seen


def tells_what_is_in_memory(path):
    """Whether this file system can say so."""
    with open(path, "rb") as stream:
        try:
            return len(os.preadv(stream.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) * b"x") == 1
        except BlockingIOError:
            return True
        except OSError:
            return False


def forget(path):
    """Drop a file from the page cache; say whether that was done."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            os.preadv(stream.fileno(), [bytearray(1)], path.stat().st_size // 2, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
    return False


def test_all_pieces_are_asked_for_in_order_and_neighbours_together(path, asked):
    offsets = np.array([9_000_000, 5_000_000, 5_030_000, 5_400_000, 5_430_000, 40])
    MappedFile(path).will_need(offsets, 30_000)
    assert asked == [(40, 30_000), (5_000_000, 60_000), (5_400_000, 60_000), (9_000_000, 30_000)]


def test_no_more_is_asked_for_at_once_than_linux_takes(path, asked):
    MappedFile(path).will_need(np.arange(100) * 30_000, 30_000)
    assert max(num_bytes for _, num_bytes in asked) <= mapped._ASKED_BYTES
    covered = np.zeros(100 * 30_000, bool)
    for offset, num_bytes in asked:
        covered[offset : offset + num_bytes] = True
    assert covered.all()


def test_a_cold_file_is_asked_for_before_its_first_batch_and_ahead_of_the_next(path, asked):
    if not tells_what_is_in_memory(path) or not forget(path):
        pytest.skip("this file system does not tell what is in memory, or does not forget")
    asked.clear()
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    rows = np.random.default_rng(0).permutation(N).reshape(-1, 20)
    assert not spectra.is_prepared_ahead
    for batch, wanted in zip(read_ahead(spectra, rows, threads=2, depth=2), rows, strict=True):
        assert np.array_equal(batch.flux[:, 0], wanted.astype("f4") * L)
        assert np.array_equal(batch.row, wanted)
    assert spectra.is_prepared_ahead
    assert sum(num_bytes for _, num_bytes in asked) >= 2 * N * L * 4


def test_a_file_in_memory_is_read_without_asking_the_disk(path, asked):
    if not tells_what_is_in_memory(path):
        pytest.skip("this file system does not tell what is in memory")
    path.read_bytes()
    spectra = open_spectra(SpectraSection(files=[str(path)]))
    for number in range(5):
        spectra.read(np.arange(20 * number, 20 * number + 20))
    assert not spectra.is_prepared_ahead
    assert asked == []
