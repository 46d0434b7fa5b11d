"""Runs over spectra with pixels that cannot be used: counted and said, or refused with their names."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.launch.status import describe
from hpctrain.profile.sections.data import SplitSection
from hpctrain.samples.split import VALIDATION, assign_split


@pytest.fixture
def damaged_file(tmp_path, spectra_file):
    """Thirty of 300 spectra with four bad pixels each, and ten without any weight."""
    path = tmp_path / "damaged.h5"
    shutil.copy(spectra_file, path)
    with h5py.File(path, "a") as file:
        flux, ivar = file["flux"][:], file["ivar"][:]
        ivar[:30, 50:54] = 1.0
        flux[:30, 50], flux[:30, 51] = np.nan, np.inf
        ivar[:30, 52], ivar[:30, 53] = -1.0, np.nan
        ivar[30:40] = 0.0
        file["flux"][...], file["ivar"][...] = flux, ivar
    return path


def events(run, name):
    return [record for record in run.read_metrics("event") if record["event"] == name]


@pytest.mark.parametrize("world_size", [1, 2])
def test_bad_pixels_are_masked_counted_and_reported(make_run, start, damaged_file, world_size):
    run = make_run(
        data={"files": [str(damaged_file)], "split": {"validation": 0}},
        launch={"ranks_per_node": world_size},
        train={"accumulation": 2 // world_size, "epochs": 2},
    )
    ranks = start(run, world_size)
    assert ranks.wait() == [0] * world_size, ranks.stderr
    first, last = events(run, "bad_pixels")
    assert first["num_bad_pixels"] == 4 * first["num_bad_spectra"]
    assert (last["num_bad_spectra"], last["num_bad_pixels"]) == (60, 240)  # two epochs
    assert (last["num_empty_spectra"], last["num_spectra"]) == (20, 600)
    records = list(run.read_metrics("train"))
    assert sum(record.get("num_bad_pixels", 0) for record in records) == 240
    assert sum(record.get("num_empty_spectra", 0) for record in records) == 20
    assert all(np.isfinite(record["loss"]) for record in records)
    words = "240 pixels of 60 spectra (flux not finite, ivar negative or not finite) have been masked"
    assert words in ranks.stderr
    seen_once = "About 30 of 300 training spectra have bad pixels, about 120 in all"
    assert seen_once in (run.path / "report.html").read_text()
    assert words in describe(run).bad_data


@pytest.mark.parametrize("world_size", [1, 2])
def test_bad_pixels_can_be_refused_and_are_named(make_run, start, damaged_file, world_size):
    run = make_run(
        data={"files": [str(damaged_file)], "bad_pixels": "error", "split": {"validation": 0}},
        launch={"ranks_per_node": world_size},
        train={"accumulation": 2 // world_size},
        checkpoint={"every_steps": 1},
    )
    ranks = start(run, world_size)
    assert ranks.wait() == [4] * world_size, ranks.stderr
    assert "Traceback" not in ranks.stderr
    failed = events(run, "failed")[0]
    assert failed["exit_code"] == 4
    assert (
        "flux NaN in pixel 50; flux infinite in pixel 51; ivar NaN in pixel 53; ivar negative in pixel 52"
        in (failed["error"])
    )
    line = next(line for line in failed["error"].splitlines() if "target_id" in line)
    assert str(damaged_file) in line
    row = int(line.split(": row ")[1].split(",")[0])
    assert row < 30
    assert f"target_id {1000 + row}:" in line
    seen = [step for step, _ in list_checkpoints(run)]
    assert max(seen, default=0) == failed["step"] - 1


def test_a_held_out_spectrum_with_bad_pixels_is_refused_too(make_run, start, damaged_file):
    with h5py.File(damaged_file, "a") as file:
        flux = np.nan_to_num(file["flux"][:], posinf=0.0)
        ivar = file["ivar"][:]
        ivar[~(ivar >= 0)] = 0
        file["flux"][...], file["ivar"][...] = flux, ivar

    side = assign_split(np.arange(1000, 1300), SplitSection(validation=0.2))
    row = int(np.flatnonzero(side == VALIDATION)[3])
    with h5py.File(damaged_file, "a") as file:
        file["ivar"][row, 10] = -5.0
    run = make_run(
        data={"files": [str(damaged_file)], "bad_pixels": "error"},
        train={"max_steps": 3},
        checkpoint={"every_steps": 5},
    )
    ranks = start(run)
    assert ranks.wait() == [4], ranks.stderr
    assert "evaluation at step 3: 1 spectra with bad pixels" in ranks.stderr
    assert f"row {row}, target_id {1000 + row}: ivar negative in pixel 10" in ranks.stderr
    assert list_checkpoints(run) == []
