"""Damaged files: the rows that stand there, or one clear error; never another row, a crash, a hang or a traceback."""

from __future__ import annotations

import collections
import contextlib
import shutil

import h5py
import numpy as np
import pytest
from any_layout import BITSHUFFLE, BLOSC, BLOSC2, BZIP2, LZ4, ZSTD, Layout, add_dataset, draw_file, draw_pixels
from damage import ALLOWED, Reader, try_damages

with contextlib.suppress(ImportError):
    import hdf5plugin  # noqa: F401


@pytest.fixture(scope="module")
def reader():
    reader = Reader()
    reader.start()
    yield reader
    reader.close()


def unexpected(draws):
    outcomes = collections.Counter()
    wrong = []
    for outcome, message, seed in draws:
        outcomes[outcome] += 1
        if outcome not in ALLOWED or (outcome == "refused" and not message):
            wrong.append((seed, outcome, message))
    return wrong, outcomes


@pytest.mark.slow
def test_damages_anywhere_in_files_of_any_layout(reader):
    wrong, outcomes = unexpected(try_damages(0, 300, lambda draw, path: draw_file(draw, path, 64), reader))
    assert wrong == []
    assert min(outcomes["same rows"], outcomes["refused"]) > 30


@pytest.mark.slow
@pytest.mark.parametrize("number", [LZ4, BLOSC, BITSHUFFLE, ZSTD, BLOSC2, BZIP2])
def test_damages_in_chunks_of_filters_that_are_plugins(reader, number):
    """Their decoders are written in C and believe the sizes they find."""
    pytest.importorskip("hdf5plugin")
    parameters = {BITSHUFFLE: (0, 2), BLOSC: (0, 0, 0, 0, 5, 1, 1), BLOSC2: (0, 0, 0, 0, 5, 1, 1), BZIP2: (9,)}

    def make(draw, path):
        layout = Layout("<f4", (draw.randint(1, 20), 64), ((number, parameters.get(number, ())),))
        with h5py.File(path, "w") as file:
            for name in ("flux", "ivar"):
                add_dataset(file, name, draw_pixels(draw, "<f4", (20, 64)), layout, draw)
            file["wavelength"] = np.linspace(3600, 9824, 64)
            file["target_id"], file["redshift"] = np.arange(20), np.ones(20)

    wrong, _ = unexpected(try_damages(1000 * number, 60, make, reader))
    assert wrong == []


MULTIMODAL = {
    "flux": "spectrum_flux",
    "ivar": "spectrum_ivar",
    "mask": "spectrum_mask",
    "wavelength": "spectrum_lambda",
    "target_id": "object_id",
    "redshift": "Z",
}


@pytest.mark.slow
def test_damages_in_a_real_file_of_the_multimodal_universe(shared_data):
    paths = sorted((shared_data / "desi_coadd/mmu_style/edr").glob("*/*.hdf5"))
    if not paths:
        pytest.skip("no Multimodal Universe files among the survey files")
    path = min(paths, key=lambda path: path.stat().st_size)
    reader = Reader(columns=MULTIMODAL)
    try:
        wrong, _ = unexpected(try_damages(0, 40, lambda draw, copy: shutil.copyfile(path, copy), reader))
    finally:
        reader.close()
    assert wrong == []
