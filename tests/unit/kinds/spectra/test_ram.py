"""Spectra decoded into memory: the same batches as from the files, in a file that leaves nothing behind."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest
from kinds.spectra import write_file
from processes import shared_memory

from hpctrain.errors import SiteError
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.ram import copy_to_memory, needed_bytes, open_in_memory
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.samples.activity import Activity, WorkCancelledError

N, L = 90, 512


def write(path, seed=0, dtype="f4", grid_per_row=False, **layout):
    random = np.random.default_rng(seed)
    arrays = {"flux": random.normal(size=(N, L)), "ivar": random.uniform(0.5, 2, size=(N, L))}
    arrays = {name: values.astype(dtype) for name, values in arrays.items()}
    arrays["flux"][3, 5:9] = np.nan
    arrays["mask"] = (random.random((N, L)) < 0.1).astype("i4")
    grid = np.linspace(3600, 9824, L)
    arrays["wavelength"] = grid + np.arange(N)[:, None] if grid_per_row else grid
    redshift = random.uniform(0.1, 3, N)
    redshift[7], redshift[20] = np.nan, -9999
    return write_file(path, layout=layout, target_id=np.arange(N) + 1000 * seed, redshift=redshift, **arrays)


GZIP = {"chunks": (16, L), "compression": "gzip", "shuffle": True}
KINDS = {
    "contiguous": {},
    "gzip": GZIP,
    "float16": {"dtype": "f2", **GZIP},
    "big-endian": {"dtype": ">f4", **GZIP},
    "float64 in narrow chunks": {"dtype": "f8", "chunks": (7, 100), "compression": "gzip"},
    "a grid per row": {"grid_per_row": True, **GZIP},
}


def in_memory(source, rows=None, activity=None):
    rows = np.arange(len(source)) if rows is None else rows
    descriptor = copy_to_memory(source, rows, 3, activity or Activity())
    try:
        return open_in_memory(os.path.join("/proc", str(os.getpid()), "fd", str(descriptor)), source)
    finally:
        os.close(descriptor)


def assert_same(one, other):
    for name in ("flux", "ivar", "wavelength_aa", "redshift", "target_id", "row"):
        first, second = getattr(one, name), getattr(other, name)
        assert first.dtype == second.dtype, name
        np.testing.assert_array_equal(first.numpy(), second.numpy(), name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_from_memory_is_that_of_the_files_bit_by_bit(tmp_path, kind):
    paths = [write(tmp_path / f"{seed}.h5", seed, **KINDS[kind]) for seed in (0, 1)]
    source = open_spectra(SpectraSection(files=[str(path) for path in paths]))
    copy = in_memory(source)
    rows = np.random.default_rng(5).permutation(2 * N)
    rows[:3] = -1
    assert_same(source.read(rows), copy.read(rows))
    np.testing.assert_array_equal(source.has_redshift, copy.has_redshift)
    assert copy.decoded_bytes == 0  # each row can be read for itself: the order is exact
    assert copy.fingerprint() == source.fingerprint()


def test_rows_that_are_not_asked_for_take_no_memory(tmp_path):
    source = open_spectra(SpectraSection(files=[str(write(tmp_path / "s.h5", **GZIP))]))
    rows = np.r_[10:30, 70:75]
    descriptor = copy_to_memory(source, rows, 2, Activity())
    taken = os.fstat(descriptor).st_blocks * 512
    assert needed_bytes(source, rows) == len(rows) * L * 8 + N * 12
    assert taken < needed_bytes(source, rows) + 16 * 4096  # pages that are shared with a neighbour
    copy = open_in_memory(f"/proc/self/fd/{descriptor}", source)
    os.close(descriptor)
    assert_same(source.read(rows), copy.read(rows))


def test_the_memory_has_no_name_and_is_gone_with_its_last_reader(tmp_path):
    before = shared_memory()
    source = open_spectra(SpectraSection(files=[str(write(tmp_path / "s.h5", **GZIP))]))
    copy = in_memory(source)
    copy.read(np.arange(5))
    assert shared_memory() == before
    assert any("hpctrain-spectra" in link for link in open_files())
    del copy
    gc.collect()
    assert not any("hpctrain-spectra" in link for link in open_files())


def open_files():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return found


def test_decoding_stops_when_it_is_asked_to(tmp_path):
    source = open_spectra(SpectraSection(files=[str(write(tmp_path / "s.h5", **GZIP))]))
    activity = Activity()
    activity.cancelled.set()
    with pytest.raises(WorkCancelledError):
        in_memory(source, activity=activity)
    gc.collect()
    assert not any("hpctrain-spectra" in link for link in open_files())


def test_a_process_that_cannot_be_reached_is_an_error_of_the_site(tmp_path):
    source = open_spectra(SpectraSection(files=[str(write(tmp_path / "s.h5"))]))
    with pytest.raises(SiteError, match="another rank of this node"):
        open_in_memory("/proc/self/fd/99999", source)
