"""Hashes of columns are those of the values, are written with the file, and say when they may be out of date."""

import hashlib
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from hpctrain.launch.provenance import fingerprint
from hpctrain.samples.fingerprint import AS_WRITTEN, CHANGED_SINCE, NOT_HASHED, hash_dataset, stored_hashes

VALUES = np.random.default_rng(3).normal(size=(300, 70))

LAYOUTS = {
    "contiguous": {"dtype": "<f4"},
    "big-endian": {"dtype": ">f4"},
    "chunked": {"dtype": "<f4", "chunks": (7, 11)},
    "gzip": {"dtype": ">f4", "chunks": (64, 70), "compression": "gzip", "shuffle": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_hash_is_that_of_the_little_endian_values_whatever_the_layout(tmp_path, layout):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("flux", data=VALUES.astype("f4"), **LAYOUTS[layout])
        assert hash_dataset(dataset) == hashlib.sha256(VALUES.astype("<f4").tobytes()).hexdigest()


def test_text_empty_and_compound_columns_have_hashes_too(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        text = file.create_dataset("text", data=np.array(["é", "bc"], object), dtype=h5py.string_dtype())
        assert hash_dataset(text) == hashlib.sha256("é\0bc\0".encode()).hexdigest()
        assert hash_dataset(file.create_dataset("none", (0, 5), "f4")) == hashlib.sha256().hexdigest()
        assert hash_dataset(file.create_dataset("null", dtype="f4")) == hashlib.sha256().hexdigest()
        padded = np.zeros(2, np.dtype([("a", "u1"), ("b", ">i4")], align=True))
        packed = padded.astype([("a", "u1"), ("b", "<i4")])
        assert hash_dataset(file.create_dataset("pair", data=padded)) == hashlib.sha256(packed.tobytes()).hexdigest()
        file.create_dataset("refs", (1,), h5py.ref_dtype)
        assert hash_dataset(file["refs"]) is None


def test_a_simulated_file_carries_the_hash_of_every_column(simulated_file):
    stored = stored_hashes(simulated_file)
    assert stored.state == AS_WRITTEN
    with h5py.File(simulated_file) as file:
        assert stored.columns == {name: hash_dataset(dataset) for name, dataset in file.items()}


def test_a_copy_that_keeps_the_time_keeps_the_hashes_and_another_one_says_so(simulated_file, tmp_path):
    kept = Path(shutil.copy2(simulated_file, tmp_path / "kept.h5"))
    assert stored_hashes(kept).state == AS_WRITTEN
    lost = Path(shutil.copyfile(simulated_file, tmp_path / "lost.h5"))
    assert stored_hashes(lost).state == CHANGED_SINCE


def test_a_file_that_was_changed_says_so(simulated_file, tmp_path):
    path = Path(shutil.copy2(simulated_file, tmp_path / "a.h5"))
    with h5py.File(path, "r+") as file:
        file["flux"][3, 4] += 1
    assert stored_hashes(path).state == CHANGED_SINCE


def test_provenance_copies_the_hashes_and_says_where_there_are_none(simulated_file, tmp_path):
    facts = fingerprint(simulated_file)
    assert facts["hashes"] == AS_WRITTEN
    assert facts["columns"]["flux"] == stored_hashes(simulated_file).columns["flux"]
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["flux"] = VALUES
    assert fingerprint(tmp_path / "plain.h5")["hashes"] == NOT_HASHED
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + os.urandom(500))
    assert fingerprint(tmp_path / "broken.h5")["hashes"].startswith(NOT_HASHED + ": cannot be read")
