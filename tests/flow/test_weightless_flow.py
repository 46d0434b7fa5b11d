"""A batch, an evaluation or a data set without weight is never a loss of 0, and never goes unsaid."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.distributed.world import World
from hpctrain.errors import DataError
from hpctrain.launch.status import describe
from hpctrain.profile.load import load_profile
from hpctrain.profile.sections.data import SplitSection
from hpctrain.rundir import RunDir
from hpctrain.samples.order import sample_order
from hpctrain.samples.split import TRAIN, VALIDATION, assign_split
from hpctrain.train.build import open_data
from hpctrain.train.memory import look_at_data


def change_file(path: Path, source: Path, change: Callable[[h5py.File], None]) -> Path:
    shutil.copy(source, path)
    with h5py.File(path, "a") as file:
        change(file)
    return path


def mask_rows(file: h5py.File, rows: np.ndarray) -> None:
    ivar = file["ivar"][:]
    ivar[rows] = 0
    file["ivar"][...] = ivar


def remove_redshifts(file: h5py.File) -> None:
    file["redshift"][...] = np.nan


def events(run: RunDir, name: str) -> list[dict[str, Any]]:
    return [record for record in run.read_metrics("event") if record["event"] == name]


def test_a_global_batch_without_weight_ends_the_run_and_names_its_objects(make_run, start, tmp_path, spectra_file):
    """Two of five spectra are masked, so one of the first global batches of two spectra carries no weight."""
    path = change_file(tmp_path / "holes.h5", spectra_file, lambda file: mask_rows(file, np.arange(300) % 5 < 2))
    run = make_run(
        data={"files": [str(path)], "split": {"validation": 0}},
        launch={"ranks_per_node": 2},
        train={"batch_size": 1, "accumulation": 1, "epochs": 1},
        checkpoint={"every_steps": 1},
    )
    ranks = start(run, 2)
    assert ranks.wait(timeout_s=600) == [4, 4], ranks.stderr
    assert "Traceback" not in ranks.stderr
    error = events(run, "failed")[0]["error"]
    assert "none of the 2 spectra of the global batch carries weight" in error
    assert "2: fully masked" in error
    assert "data.columns.ivar" in error
    named = [int(line.split("target_id ")[1].split(":")[0]) for line in error.splitlines() if "target_id" in line]
    assert len(named) == 2
    assert all((target_id - 1000) % 5 < 2 for target_id in named)
    step = int(error.split("step ")[1].split(":")[0])
    assert all(record["loss"] > 0 for record in run.read_metrics("train"))
    assert max((number for number, _ in list_checkpoints(run)), default=0) < step


def test_what_is_doubtful_about_a_run_is_in_its_log_its_records_its_status_and_its_report(
    make_run, start, tmp_path, spectra_file
):
    """Held out: nothing with weight. The last, short batch: nothing with weight. No GPU. Warnings in the files."""
    with h5py.File(spectra_file) as file:
        side = assign_split(file["target_id"][:], SplitSection(validation=0.2))
    train = np.flatnonzero(side == TRAIN)
    num_last = len(train) % 32 or 32
    assert num_last < 32, "another file is needed: the last batch is a full one"
    last = train[sample_order(3, len(train), np.arange(len(train) - num_last, len(train)))]

    def change(file: h5py.File) -> None:
        mask_rows(file, np.concatenate([last, np.flatnonzero(side == VALIDATION)]))
        file["zwarn"] = np.where(np.arange(300) < 60, 4, 0)
        file["redshift"][last[:1]] = -1.0

    path = change_file(tmp_path / "doubtful.h5", spectra_file, change)
    run = make_run(
        data={"files": [str(path)]},
        launch={"gpus_per_node": 1},
        train={"epochs": 1, "seed": 3, "device": "auto"},
    )
    ranks = start(run, 1, CUDA_VISIBLE_DEVICES="")
    assert ranks.wait(timeout_s=600) == [0], ranks.stderr
    text = run.metrics.read_text()
    assert "NaN" not in text
    assert '"loss": null' not in text
    records = list(run.read_metrics("train"))
    assert all(record["loss"] > 0 for record in records[:-1])
    assert "loss" not in records[-1]
    assert records[-1]["num_rejected"] == num_last
    assert list(run.read_metrics("eval")) == []
    assert events(run, "best") == []
    data = events(run, "data")[0]
    assert data["num_without_redshift"] == 1
    assert data["num_zwarn"] == int((side[:60] == TRAIN).sum())
    assert data["num_rejected"] == num_last - 1
    assert any("--zwarn good" in note for note in data["notes"])
    assert any("data.columns.redshift" in note for note in data["notes"])
    assert events(run, "evaluation_empty")[0]["reasons"] == {"fully masked": int((side == VALIDATION).sum())}

    status, report = describe(run), (run.path / "report.html").read_text()
    for words, in_report in (("NO GPU", "asks for GPUs"), ("NO EVALUATION", "no usable held-out spectrum")):
        assert words in ranks.stderr
        assert any(words in warning for warning in status.warnings)
        assert in_report in report
    for words in ("--zwarn good", "1 of 300 rows have no redshift"):
        assert words in ranks.stderr
        assert any(words in note for note in status.notes)
        assert words in report


def test_data_without_a_redshift_are_refused_before_the_first_step(make_run, tmp_path, spectra_file):
    path = change_file(tmp_path / "none.h5", spectra_file, remove_redshifts)
    run = make_run(data={"files": [str(path)]})
    profile = load_profile(run.profile)
    with pytest.raises(DataError, match=r"None of the \d+ spectra has a redshift") as error:
        open_data(profile, run, World())
    assert error.value.exit_code == 4
    assert "data.columns.redshift" in str(error.value)
    look = look_at_data(profile)
    assert look.inspection is not None
    with pytest.raises(DataError):
        look.inspection.raise_errors("data")


def test_training_and_check_find_the_same(make_run, spectra_file):
    run = make_run()
    profile = load_profile(run.profile)
    opened = open_data(profile, run, World())
    assert look_at_data(profile).inspection == opened.inspection
    json.dumps(opened.inspection.to_json())
