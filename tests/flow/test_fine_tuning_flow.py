"""Going on from a trained network: frozen weights, other data, and batches as large as fit."""

from __future__ import annotations

import os
import shutil
import signal

import h5py
import numpy as np
import pytest
import yaml
from safetensors.torch import load_file
from small_network import SMALL_NETWORK

from hpctrain.families.store import load_model
from hpctrain.profile.load import load_profile
from hpctrain.rundir import RunDir

SHORT = {"epochs": 1, "warmup_steps": 0}
NETWORK = {**SMALL_NETWORK, "encoder": "least_squares", "start": "pca"}
CONSTANTS = ("decoder.mean", "decoder.components")
"""The linear model, which comes with the weights and is never trained."""


@pytest.fixture
def make_run(make_run):
    """Return a function that makes a run of the default network."""
    return lambda name="run", **changes: make_run(name, **{**changes, "model": {**NETWORK, **changes.get("model", {})}})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, spectra_file, fork_server):
    """A finished run to start from, made once."""
    run = RunDir.create(tmp_path_factory.mktemp("trained"), "flow", "source")
    profile = {
        "name": "flow",
        "launch": {"gpus_per_node": 0, "cpus_per_rank": 1},
        "data": {"files": [str(spectra_file)], "reader_threads": 1, "split": {"validation": 0.2}},
        "model": NETWORK,
        "train": {"batch_size": 32, "epochs": 2, "warmup_steps": 2, "device": "cpu"},
        "track": {"tensorboard": False},
    }
    run.profile.write_text(yaml.safe_dump(profile))
    assert fork_server.start("hpctrain.train", [str(run.path)], os.environ).wait() == 0
    return run


def weights(run):
    return load_file(run.model / "model.safetensors")


def cut_at_step_6(start, run):
    ranks = start(run)
    ranks.wait_for_step(6)
    ranks.signal(signal.SIGUSR2)
    assert ranks.wait() == [75], ranks.stderr


def test_frozen_weights_keep_every_bit_and_the_others_are_trained(make_run, start, trained):
    run = make_run(train={**SHORT, "init_from": str(trained.path), "freeze": ["encoder"], "ema_decay": 0.9})
    ranks = start(run)
    assert ranks.wait() == [0], ranks.stderr
    before, after = weights(trained), weights(run)
    for name, value in after.items():
        assert value.equal(before[name]) == name.startswith(("encoder.", *CONSTANTS)), name
    saved = load_file(max(run.checkpoints.glob("step-*")) / "optimizer.safetensors")
    assert not [name for name in saved if "/encoder." in name], "moments of weights that never move"


def test_a_frozen_run_that_was_cut_ends_with_the_same_bits(make_run, start, trained):
    train = {"epochs": 3, "warmup_steps": 0, "init_from": str(trained.path), "freeze": ["decoder.*"]}
    straight, cut = make_run("straight", train=train), make_run("cut", train=train)
    assert start(straight).wait() == [0]
    cut_at_step_6(start, cut)
    assert start(cut).wait() == [0]
    assert (straight.model / "model.safetensors").read_bytes() == (cut.model / "model.safetensors").read_bytes()


def test_a_run_goes_on_without_what_it_started_from_and_begins_anew_only_with_it(make_run, start, trained, tmp_path):
    source = shutil.copytree(trained.model, tmp_path / "stick")
    train = {"epochs": 3, "warmup_steps": 0, "init_from": str(source), "ema_decay": 0.9}
    straight, cut = make_run("straight", train=train), make_run("cut", train=train)
    assert start(straight).wait() == [0]
    cut_at_step_6(start, cut)
    source.rename(tmp_path / "taken away")
    damaged = shutil.copytree(cut.path, tmp_path / "damaged")
    for path in damaged.glob("checkpoints/step-*/model.safetensors"):
        path.write_bytes(b"")
    assert start(cut).wait() == [0]
    assert (straight.model / "model.safetensors").read_bytes() == (cut.model / "model.safetensors").read_bytes()
    ranks = start(RunDir(damaged))
    assert ranks.wait() == [5], "weights drawn at random would be another run"
    (tmp_path / "taken away").rename(source)
    assert start(RunDir(damaged)).wait() == [0]
    assert (straight.model / "model.safetensors").read_bytes() == (damaged / "model" / "model.safetensors").read_bytes()


def test_a_pattern_that_fits_nothing_ends_the_run_with_the_names_there_are(make_run, start):
    ranks = start(make_run(train={"freeze": ["encoder.blok.*"]}))
    assert ranks.wait() == [2]
    assert "'encoder.blok.*' matches no weight; the modules of the network are encoder.perceptron.0" in ranks.stderr
    assert "Traceback" not in ranks.stderr


@pytest.fixture
def farther_spectra(tmp_path, spectra_file):
    """The same kind of spectra at other redshifts, whose own rest grid would be another."""
    path = tmp_path / "farther.h5"
    shutil.copy(spectra_file, path)
    with h5py.File(path, "r+") as file:
        file["redshift"][...] = file["redshift"][...] * 0.5 + 0.05
    return path


def test_a_network_goes_on_with_spectra_of_other_redshifts(make_run, start, trained, farther_spectra):
    data = {"files": [str(farther_spectra)]}
    fresh = make_run("fresh", data=data, train=SHORT)
    tuned = make_run("tuned", data=data, train={**SHORT, "init_from": str(trained.path)})
    assert start(fresh).wait() == [0]
    ranks = start(tuned)
    assert ranks.wait() == [0], ranks.stderr
    grid = load_model(trained.path)[0].grid
    assert load_model(tuned.path)[0].grid == grid
    for name in CONSTANTS:
        assert weights(tuned)[name].equal(weights(trained)[name])
    assert load_model(fresh.path)[0].grid != grid


def test_a_network_with_a_grid_of_its_own_says_that_weights_do_not_fit(make_run, start, trained):
    run = make_run(model={"rest_pixels": 64}, train={**SHORT, "init_from": str(trained.path)})
    ranks = start(run)
    assert ranks.wait() == [5]
    assert "weights do not fit the model" in ranks.stderr


def test_the_largest_batch_that_fits_is_found_once_and_kept(make_run, start):
    train = {"batch_size": "auto", "accumulation": 1, "global_batch": 48, "epochs": 3, "max_steps": 8}
    run = make_run(train=train)
    ranks = start(run)
    assert ranks.wait() == [0], ranks.stderr
    (event,) = [record for record in run.read_metrics("event") if record["event"] == "batch_size"]
    assert (event["batch_size"], event["accumulation"]) == (48, 1), "a small network: all of an update fits"
    settled = load_profile(run.profile)
    assert (settled.train.batch_size, settled.train.accumulation, settled.global_batch) == (48, 1, 48)


def test_ranks_settle_on_one_batch_size_and_the_global_batch_stays(make_run, start):
    train = {"batch_size": "auto", "accumulation": 1, "global_batch": 60, "max_steps": 4, "warmup_steps": 1}
    run = make_run(launch={"ranks_per_node": 2}, train=train)
    pair = start(run, 2)
    assert pair.wait() == [0, 0], pair.stderr
    settled = load_profile(run.profile)
    assert (settled.train.batch_size, settled.train.accumulation, settled.global_batch) == (30, 1, 60)
    losses = {record["step"]: record["loss"] for record in run.read_metrics("train")}
    assert len(losses) == 4
    assert np.isfinite(list(losses.values())).all()
