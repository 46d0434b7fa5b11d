"""Filters give the same bytes whichever library undoes them, and memory that was used before is no one else's."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest

from hpctrain.samples import filters
from hpctrain.samples.buffers import BoundedPool
from hpctrain.samples.filters import DamagedChunkError, Filter, Pipeline

GZIP, SHUFFLE, FLETCHER = Filter(1, "deflate", (4,)), Filter(2, "shuffle", (4,)), Filter(3, "fletcher32", ())
CHUNK = np.random.default_rng(0).normal(size=5000).astype("f4").view(np.uint8)
SHUFFLED = np.ascontiguousarray(CHUNK.reshape(-1, 4).T).reshape(-1)


def decode(found, stored, num_bytes=CHUNK.size):
    out = np.full(num_bytes, 7, np.uint8)
    Pipeline(found).decode_into(np.frombuffer(stored, np.uint8), out)
    return out


@pytest.mark.slow
def test_these_tests_pass_where_only_python_and_numpy_are_installed(tmp_path):
    """Not the fast libraries: importing them fails, as if they were absent."""
    for package in ("deflate", "hdf5plugin"):
        (tmp_path / f"{package}.py").write_text("raise ModuleNotFoundError\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", "-m", "not slow", __file__]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"1[0-9] passed, 1 skipped", done.stdout), done.stdout  # libdeflate is not used


def test_gzip_and_shuffle_come_back_the_same_from_any_library():
    assert np.array_equal(decode([SHUFFLE, GZIP], zlib.compress(SHUFFLED.tobytes())), CHUNK)
    assert np.array_equal(decode([GZIP], zlib.compress(CHUNK.tobytes())), CHUNK)


@pytest.mark.parametrize("num_bytes", [0, 1, 3, 4, 5, 4 * 77 + 3])
def test_bytes_that_fill_no_item_stay_where_they_are(num_bytes):
    whole = num_bytes // 4 * 4
    stored = np.concatenate([CHUNK[:whole].reshape(-1, 4).T.reshape(-1), CHUNK[whole:num_bytes]])
    assert np.array_equal(decode([SHUFFLE], stored.tobytes(), num_bytes), CHUNK[:num_bytes])


def test_a_checksum_below_gzip_has_its_place():
    summed = CHUNK.tobytes() + filters._fletcher32(CHUNK).to_bytes(4, "little")
    assert np.array_equal(decode([FLETCHER, GZIP], zlib.compress(summed)), CHUNK)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "longer", "shorter"])
def test_a_damaged_gzip_chunk_is_refused_by_any_library(damage):
    packed = zlib.compress(CHUNK.tobytes())
    flipped = bytearray(packed)
    flipped[len(packed) // 2] ^= 16
    stored = {
        "cut": packed[:-9],
        "flipped": bytes(flipped),
        "empty": b"",
        "longer": zlib.compress(CHUNK.tobytes() + b"12345"),
        "shorter": zlib.compress(CHUNK.tobytes()[:-8]),
    }[damage]
    with pytest.raises(DamagedChunkError):
        decode([GZIP], stored)


def test_libdeflate_is_used_where_it_is_installed(monkeypatch):
    pytest.importorskip("deflate")
    monkeypatch.setattr(filters.zlib, "decompress", lambda *_, **__: pytest.fail("zlib was called"))
    assert np.array_equal(decode([GZIP], zlib.compress(CHUNK.tobytes())), CHUNK)


def test_lent_memory_is_nobody_elses_until_it_is_dropped():
    pool = BoundedPool()
    pool.max_bytes = 4000
    first, second = pool.lend((10, 25), np.dtype("f4")), pool.lend((10, 25), np.dtype("f4"))
    assert not np.shares_memory(first, second)
    place = first.ctypes.data
    del first
    gc.collect()
    third = pool.lend((10, 25), np.dtype("f4"))
    assert third.ctypes.data == place
    assert not np.shares_memory(third, second)


def test_no_more_memory_is_kept_than_was_allowed():
    pool = BoundedPool()
    pool.max_bytes = 10_000
    held = [pool.lend((1000,), np.dtype("u1")) for _ in range(30)]
    del held
    gc.collect()
    last = pool.lend((2000,), np.dtype("u1"))
    assert sum(block.size for block in pool._idle) + last.nbytes <= 10_000
