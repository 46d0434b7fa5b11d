"""Whatever the layout of the files, a batch holds, bit by bit, what plain h5py reads."""

from __future__ import annotations

import contextlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from any_layout import draw_file, read_plainly
from hypothesis import given, settings
from hypothesis import strategies as st

from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.samples import chunks

with contextlib.suppress(ImportError):
    import hdf5plugin  # noqa: F401  libhdf5 finds the filters it brings


def same_bits(found, expected):
    """Compare as bits, for a NaN must come back as that NaN."""
    expected = np.ascontiguousarray(expected)
    return found.dtype == expected.dtype and found.tobytes() == expected.tobytes()


def expected_rows(plain, column, rows):
    dtype = np.result_type(*(part[column].dtype for part in plain))
    values = np.concatenate([part[column].astype(dtype) for part in plain])[np.maximum(rows, 0)]
    values[rows < 0] = 0
    return values


@pytest.mark.slow
@given(draw=st.randoms(use_true_random=False), num_files=st.sampled_from([1, 1, 2, 3]), threads=st.integers(1, 4))
@settings(max_examples=120)
def test_any_rows_of_any_files_in_any_threads_are_those_h5py_reads(draw, num_files, threads):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "_KEPT_BYTES", 0)  # few decoded chunks fit, so that they push each other out
        num_pixels = draw.choice([2, 3, 7, 64, 150])
        paths = [Path(folder) / f"{number}.h5" for number in range(num_files)]
        for path in paths:
            draw_file(draw, path, num_pixels)
        spectra = open_spectra(SpectraSection(files=[str(path) for path in paths]))
        plain = [read_plainly(path) for path in paths]
        if draw.random() < 0.5:
            spectra.keep_window(draw.randint(1, 8))
        requests = [
            np.array([draw.randrange(-1, len(spectra)) for _ in range(draw.choice([1, 5, 40]))]) for _ in range(6)
        ]
        with ThreadPoolExecutor(threads) as pool:
            for rows in requests[::2]:
                pool.submit(spectra.prepare, rows)
            batches = list(pool.map(spectra.read, requests))
        for rows, batch in zip(requests, batches, strict=True):
            for column in ("flux", "ivar"):
                assert same_bits(getattr(batch, column).numpy(), expected_rows(plain, column, rows)), (column, rows)
            ids = np.concatenate([part["target_id"] for part in plain])[np.maximum(rows, 0)]
            assert batch.target_id.tolist() == np.where(rows < 0, -1, ids).tolist()
