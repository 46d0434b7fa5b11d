"""Whatever tells two runs apart is found and named; what only says how fast the machine was is not compared."""

from __future__ import annotations

import json
import math

import pytest
import torch

from hpctrain.checkpoint.store import write_checkpoint
from hpctrain.rundir import RunDir
from hpctrain.verify.compare import compare, listed


def tensors(**changed):
    state = {
        "model": {"w": torch.arange(12.0)},
        "optimizer": {"exp_avg/w": torch.ones(12), "exp_avg_sq/w": torch.ones(12), "scale": torch.tensor(1024.0)},
        "ema": {"w": torch.zeros(12)},
    }
    for name, value in changed.items():
        file, _, tensor = name.partition("__")
        state[file][tensor.replace("__", "/")][-1:] = value
    return state


def records():
    """Two updates and an evaluation, in the words of the trainer."""
    common = {"time": 1.5, "attempt": 1}
    return [
        {"kind": "event", "step": 0, "event": "started", **common},
        {"kind": "train", "step": 1, "loss": 3.5, "lr": 0.1, "samples_seen": 64, "samples_per_s": 9.0, **common},
        {"kind": "train", "step": 2, "loss": 2.5, "lr": 0.2, "samples_seen": 128, "samples_per_s": 8.0, **common},
        {"kind": "eval", "step": 2, "loss": 2.25, "chi2": 1.5, "seconds": 0.5, **common},
    ]


def finished_run(folder, name, lines=None, state=None, progress=None, model=b"weights"):
    run = RunDir.create(folder, "twins", name)
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in (lines or records())))
    run.model.mkdir()
    (run.model / "model.safetensors").write_bytes(model)
    facts = {"progress": {"step": 2, "best_value": 2.25, **(progress or {})}, "data": {"num_train": 100}}
    write_checkpoint(run, 2, state or tensors(), facts, 1)
    return run


@pytest.fixture
def straight(tmp_path):
    return finished_run(tmp_path, "straight")


def different(parts):
    return {part.name: part.differences for part in parts if not part.identical}


def test_runs_that_differ_in_nothing_but_time_and_attempts_are_identical(straight, tmp_path):
    lines = [{**line, "time": 99.0, "attempt": 7} for line in records()]
    lines[1]["samples_per_s"] = lines[3]["seconds"] = 0.125
    cut = finished_run(tmp_path, "cut", [*lines[:1], {"kind": "event", "event": "resumed", "step": 1}, *lines[1:]])
    assert different(compare(straight, cut)) == {}
    assert len(compare(straight, cut)) == 10


def test_a_last_bit_of_a_logged_loss_is_found_and_named(straight, tmp_path):
    for index, name, where in ((2, "logged in training", "step 2 loss"), (3, "logged in validation", "step 2 loss")):
        lines = records()
        lines[index]["loss"] = math.nextafter(lines[index]["loss"], math.inf)
        cut = finished_run(tmp_path, f"cut-{index}", lines)
        assert different(compare(straight, cut)) == {name: [where]}


def test_other_logged_numbers_count_too(straight, tmp_path):
    lines = records()
    lines[1]["lr"] = 0.11
    lines[3]["chi2"] = None
    found = different(compare(straight, finished_run(tmp_path, "cut", lines)))
    assert found == {"logged in training": ["step 1 lr"], "logged in validation": ["step 2 chi2"]}


def test_a_step_that_is_lost_or_stands_twice_is_named(straight, tmp_path):
    lost = finished_run(tmp_path, "lost", [records()[0], *records()[2:]])
    assert "step 1 loss" in different(compare(straight, lost))["logged in training"]
    twice = finished_run(tmp_path, "twice", [*records(), records()[1]])
    found = different(compare(straight, twice))
    assert found["steps that are recorded twice"] == ["step 1 is recorded twice"]


def test_other_spectra_seen_are_found(straight, tmp_path):
    lines = records()
    lines[2]["samples_seen"] = 127
    assert "spectra seen, with repetition over epochs" in different(
        compare(straight, finished_run(tmp_path, "cut", lines))
    )


def test_a_model_file_that_differs_in_a_byte_or_is_absent_is_found(straight, tmp_path):
    absent = finished_run(tmp_path, "absent")
    (absent.model / "model.safetensors").unlink()
    assert list(different(compare(straight, absent))) == ["SHA-256 of `model.safetensors`"]


@pytest.mark.parametrize(
    ("tensor", "file", "named"),
    [
        ("model__w", "model", "w"),
        ("optimizer__exp_avg__w", "optimizer", "exp_avg/w"),
        ("optimizer__exp_avg_sq__w", "optimizer", "exp_avg_sq/w"),
        ("ema__w", "ema", "w"),
    ],
)
def test_one_value_of_the_last_checkpoint_is_found_and_its_tensor_named(straight, tmp_path, tensor, file, named):
    cut = finished_run(tmp_path, "cut", state=tensors(**{tensor: 0.5}))
    assert different(compare(straight, cut)) == {f"SHA-256 of `step-00000002/{file}.safetensors`": [named]}


def test_another_loss_scale_is_found(straight, tmp_path):
    state = tensors()
    state["optimizer"]["scale"] = torch.tensor(512.0)
    cut = finished_run(tmp_path, "cut", state=state)
    assert different(compare(straight, cut)) == {"SHA-256 of `step-00000002/optimizer.safetensors`": ["scale"]}


def test_another_progress_is_found_and_named(straight, tmp_path):
    cut = finished_run(tmp_path, "cut", progress={"best_value": 2.125})
    assert list(different(compare(straight, cut)).values()) == [["progress.best_value"]]


def test_a_stop_between_the_last_step_and_its_evaluation_is_no_difference(tmp_path):
    """It saves before the evaluation; the evaluation itself is made by the next attempt, and compared as a record."""
    straight = finished_run(tmp_path, "straight", progress={"evaluated_step": 2, "best_step": 2})
    cut = finished_run(tmp_path, "cut", progress={"evaluated_step": 1, "best_step": 1, "best_value": 3.0})
    assert different(compare(straight, cut)) == {}


def test_a_last_checkpoint_that_is_damaged_does_not_count_as_one(straight, tmp_path):
    cut = finished_run(tmp_path, "cut")
    (cut.checkpoints / "step-00000002" / "ema.safetensors").unlink()
    assert list(different(compare(straight, cut))) == ["step of the last checkpoint"]


def test_a_long_list_of_differences_is_cut_short():
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(9)]) == "0, 1, 2, 3, 4, 5 and 3 more"
