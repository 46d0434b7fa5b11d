"""The real trainer, in processes of its own, on a small set: it learns, agrees with itself, and says what is wrong."""

from __future__ import annotations

import json
import shutil
import signal

import h5py
import numpy as np
import pytest
from safetensors.torch import load_file

from hpctrain.checkpoint.whole import list_checkpoints, verify
from hpctrain.validation.judged import read_judged


def losses(run, kind="train"):
    """Return the logged loss of each step."""
    return {record["step"]: record["loss"] for record in run.read_metrics(kind)}


def events(run, name=None):
    found = list(run.read_metrics("event"))
    return found if name is None else [record for record in found if record["event"] == name]


def test_a_run_learns_and_leaves_a_checked_model_with_results(make_run, start):
    run = make_run(train={"epochs": 20, "learning_rate": 5e-3}, track={"tensorboard": True, "figure_every_steps": 50})
    ranks = start(run)
    assert ranks.wait() == [0], ranks.stderr
    curve = losses(run)
    assert np.mean(list(curve.values())[-10:]) < 0.3 * np.mean(list(curve.values())[:5])
    evaluations = losses(run, "eval")
    assert evaluations[max(evaluations)] < evaluations[min(evaluations)]
    assert [record["event"] for record in events(run)][-1] == "finished"
    assert events(run, "finished")[0]["check_max_difference"] < 1e-5
    assert set(json.loads((run.model / "model.json").read_text())) >= {"family", "section", "facts", "normalise"}
    with h5py.File(run.results / "latents.h5") as file:
        assert file["LATENT_VEC"].shape == (events(run, "data")[0]["num_validation"], 3)
        assert read_judged(run).column("NORM").shape == file["row"].shape == file["target_id"].shape
    arrays = np.load(run.results / "reconstructions.npz")
    assert arrays["flux"].shape == arrays["reconstruction"].shape == (4, 200)
    assert np.load(run.results / "anomalies.npz")["anomaly_score"].shape == (20,)
    assert list(run.tensorboard.glob("events.out.tfevents*"))
    steps = [step for step, _ in list_checkpoints(run)]
    assert len(steps) <= 6
    assert all(verify(path) is None for _, path in list_checkpoints(run))


def test_one_rank_and_two_ranks_agree_on_every_logged_loss(make_run, start):
    """The same global batches and random numbers: only the order of summation may differ."""
    one = make_run("one")
    two = make_run("two", launch={"ranks_per_node": 2}, train={"accumulation": 1})
    pair = start(two, 2)
    assert start(one, 1).wait() == [0]
    assert pair.wait() == [0, 0], pair.stderr
    for kind in ("train", "eval"):
        first, second = losses(one, kind), losses(two, kind)
        assert first.keys() == second.keys()
        np.testing.assert_allclose(list(first.values()), list(second.values()), rtol=2e-4)
    # The first steps have had no time to amplify rounding.
    assert losses(one)[1] == pytest.approx(losses(two)[1], rel=1e-6)


def test_a_run_cut_by_a_signal_ends_with_the_same_bits_as_one_that_was_not(make_run, start, start_command):
    straight, cut = make_run("straight", train={"ema_decay": 0.9}), make_run("cut", train={"ema_decay": 0.9})
    assert start(straight).wait() == [0]
    ranks = start_command(cut)
    ranks.wait_for_step(7)
    ranks.signal(signal.SIGUSR2)
    assert ranks.wait() == [75], ranks.stderr
    assert events(cut, "stopped")[0]["cause"] == "USR2"
    assert start_command(cut).wait() == [0]
    assert (straight.model / "model.safetensors").read_bytes() == (cut.model / "model.safetensors").read_bytes()
    assert losses(straight) == losses(cut)
    assert losses(straight, "eval") == losses(cut, "eval")


def test_three_ranks_cut_by_a_signal_end_with_the_same_bits_too(make_run, start):
    """With three ranks the grouping of gradients decides the order of summation, unlike with two."""
    changes = {"launch": {"ranks_per_node": 3}, "train": {"accumulation": 1, "batch_size": 8, "epochs": 3}}
    straight, cut = make_run("straight", **changes), make_run("cut", **changes)
    assert start(straight, 3).wait() == [0, 0, 0]
    ranks = start(cut, 3)
    ranks.wait_for_step(7)
    ranks.signal(signal.SIGUSR2)
    assert ranks.wait() == [75, 75, 75], ranks.stderr
    assert start(cut, 3).wait() == [0, 0, 0]
    assert losses(straight) == losses(cut)
    assert (straight.model / "model.safetensors").read_bytes() == (cut.model / "model.safetensors").read_bytes()


def test_a_run_goes_on_with_another_number_of_ranks(make_run, start):
    """Global batches, order and random numbers stay; only the order of summation changes."""
    straight, elastic = make_run("straight"), make_run("elastic")
    assert start(straight).wait() == [0]
    ranks = start(elastic)
    ranks.wait_for_step(5)
    ranks.signal(signal.SIGUSR2)
    assert ranks.wait() == [75]
    two = start(elastic, 2)
    assert two.wait() == [0, 0], two.stderr
    first, second = losses(straight), losses(elastic)
    assert first.keys() == second.keys()
    np.testing.assert_allclose(list(first.values()), list(second.values()), rtol=2e-4)


def test_a_killed_run_goes_on_from_its_last_checkpoint_without_losing_or_repeating_a_step(make_run, start):
    straight, killed = make_run("straight"), make_run("killed")
    assert start(straight).wait() == [0]
    ranks = start(killed)
    ranks.wait_for_step(13)
    ranks.kill()
    assert start(killed).wait() == [0]
    resumed = events(killed, "resumed")[0]
    assert resumed["step"] in (5, 8, 10, 15, 16), "every fifth step, or an evaluation"
    assert [record["step"] for record in killed.read_metrics("train")] == sorted(losses(straight))
    assert losses(straight) == losses(killed)
    assert (straight.model / "model.safetensors").read_bytes() == (killed.model / "model.safetensors").read_bytes()


def test_a_signal_to_one_rank_stops_all_of_them_at_the_same_step(make_run, start):
    run = make_run(launch={"ranks_per_node": 2}, train={"epochs": 200})
    ranks = start(run, 2)
    ranks.wait_for_step(3)
    ranks.signal(signal.SIGTERM, ranks=[1])
    assert ranks.wait() == [75, 75], ranks.stderr
    assert events(run, "stopped")[0]["cause"] == "another rank"
    assert list_checkpoints(run)[0][0] == events(run, "stopped")[0]["step"]


def test_a_deadline_stops_a_run_without_any_signal(make_run, start):
    import time

    run = make_run(train={"epochs": 10000})
    ranks = start(run, HPCTRAIN_DEADLINE=str(int(time.time()) + 15))
    assert ranks.wait() == [75], ranks.stderr
    assert events(run, "stopped")[0]["cause"] == "deadline"


def test_ctrl_c_saves_and_does_not_ask_for_a_requeue(make_run, start_command):
    run = make_run(train={"epochs": 10000})
    ranks = start_command(run)
    ranks.wait_for_step(3)
    ranks.signal(signal.SIGINT)
    assert ranks.wait() == [130]
    assert list_checkpoints(run)


def test_a_finished_run_that_is_started_again_ends_at_once(make_run, start):
    run = make_run()
    assert start(run).wait() == [0]
    before = (run.model / "model.safetensors").read_bytes()
    assert start(run).wait() == [0]
    assert (run.model / "model.safetensors").read_bytes() == before
    assert len(events(run, "finished")) == 2


def test_a_spectrum_that_makes_the_loss_infinite_is_named_with_its_step_and_exits_6(
    make_run, start, spectra_file, tmp_path
):
    broken = tmp_path / "broken.h5"
    shutil.copy(spectra_file, broken)
    with h5py.File(broken, "r+") as file:
        file["flux"][17, 150] = 1e30
    run = make_run(data={"files": [str(broken)], "split": {"validation": 0.0}}, launch={"ranks_per_node": 2})
    ranks = start(run, 2)
    assert set(ranks.wait()) == {6}, ranks.stderr
    diverged = events(run, "diverged")[0]
    assert diverged["objects"] == [1017]
    assert f"step {diverged['step']}" in ranks.stderr
    assert "target_id 1017" in ranks.stderr
    assert "Traceback" not in ranks.stderr
    assert all(step < diverged["step"] for step, _ in list_checkpoints(run))


def test_a_damaged_checkpoint_is_passed_over_and_said(make_run, start):
    straight, run = make_run("straight"), make_run("run")
    assert start(straight).wait() == [0]
    ranks = start(run)
    ranks.wait_for_step(12)
    ranks.signal(signal.SIGTERM)
    assert ranks.wait() == [75]
    newest = list_checkpoints(run)[0][1] / "optimizer.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    ranks = start(run)
    assert ranks.wait() == [0]
    assert "does not have the SHA-256" in ranks.stderr
    assert events(run, "checkpoint_rejected")
    assert (straight.model / "model.safetensors").read_bytes() == (run.model / "model.safetensors").read_bytes()


def test_data_that_changed_between_attempts_is_refused(make_run, start, spectra_file, tmp_path):
    mine = tmp_path / "mine.h5"
    shutil.copy(spectra_file, mine)
    run = make_run(data={"files": [str(mine)]}, train={"epochs": 10000})
    ranks = start(run)
    ranks.wait_for_step(3)
    ranks.signal(signal.SIGTERM)
    assert ranks.wait() == [75]
    with h5py.File(mine, "r+") as file:
        for name in list(file):
            kept = file[name][:] if name == "wavelength" else file[name][:-50]
            del file[name]
            file[name] = kept
    ranks = start(run)
    assert ranks.wait() == [4]
    assert "num_train was" in ranks.stderr


def test_early_stopping_ends_with_the_best_weights(make_run, start):
    stopping = {"patience": 2, "min_delta": 100.0}
    run = make_run(train={"epochs": 100, "early_stopping": stopping}, checkpoint={"keep_last": 1})
    ranks = start(run)
    assert ranks.wait() == [0], ranks.stderr
    best = events(run, "best")[-1]["step"]
    assert events(run, "early_stopped")[0]["step"] < 100 * 8
    weights = load_file(run.checkpoints / f"step-{best:08d}" / "model.safetensors")
    model = load_file(run.model / "model.safetensors")
    assert all((weights[name] == model[name]).all() for name in weights)


@pytest.mark.parametrize("change", [{"precision": "bf16"}, {"gradient_checkpointing": True}])
def test_other_arithmetic_trains_too(make_run, start, change):
    run = make_run(train=change)
    ranks = start(run)
    assert ranks.wait() == [0], ranks.stderr
    evaluations = losses(run, "eval")
    assert evaluations[max(evaluations)] < evaluations[min(evaluations)]


def test_fp16_on_a_cpu_is_refused_in_one_line(make_run, start_command):
    ranks = start_command(make_run(train={"precision": "fp16"}))
    assert ranks.wait() == [2]
    assert "train.precision" in ranks.stderr
    assert "Traceback" not in ranks.stderr
