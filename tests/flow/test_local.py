"""``python -m hpctrain.local``: the trainer in the foreground, without Slurm and without submitit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from small_network import SMALL_NETWORK

from hpctrain.edge.bundle import read_bundle
from hpctrain.profile.load import load_profile
from hpctrain.rundir import RunDir

SECONDS = 600


@pytest.fixture
def profile(tmp_path, spectra_file):
    """A profile written for four GPUs, which this machine does not have."""
    path = tmp_path / "profile.yaml"
    text = {
        "name": "board",
        "launch": {"gpus_per_node": 4, "cpus_per_rank": 2},
        "data": {"files": [str(spectra_file)], "reader_threads": 1, "split": {"validation": 0.2}},
        "model": SMALL_NETWORK,
        "train": {"batch_size": 8, "epochs": 3, "warmup_steps": 2, "log_every_steps": 1, "device": "cpu"},
        "checkpoint": {"every_steps": 2},
        "track": {"tensorboard": False},
    }
    path.write_text(yaml.safe_dump(text))
    return path


@pytest.fixture
def local(tmp_path, fork_server):
    """Return a function that starts the command where submitit cannot be imported, by default with its imports done."""
    broken = tmp_path / "broken" / "submitit"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('this machine has no submitit')\n")
    paths = [str(broken.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    started = []

    def start(*arguments, python=fork_server.python):
        process = subprocess.Popen(
            [python, "-m", "hpctrain.local", *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def only_run(tmp_path):
    (path,) = (tmp_path / "runs" / "board").iterdir()
    return RunDir(path)


def wait_for_checkpoint(tmp_path, process):
    deadline = time.monotonic() + SECONDS
    while not list(tmp_path.glob("runs/board/*/checkpoints/step-*/MANIFEST.json")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finished(process):
    text, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, text
    return text


def test_a_profile_for_many_gpus_trains_here_with_the_same_global_batch(local, profile, tmp_path):
    small = ["edge.gates.min_spectra=10", "edge.max_held_out=40", "edge.latency_batch=2", "edge.latency_calls=30"]
    text = finished(local(profile, "--set", "edge.export_at_end=fp32", *small))
    run = only_run(tmp_path)
    settled = load_profile(run.profile)
    assert (settled.launch.world_size, settled.global_batch) == (1, 4 * 8)
    assert "finished" in text
    assert "step" in text, "progress is shown in the foreground"
    assert run.report.exists()
    assert read_bundle(run.path / "export" / "onnx-fp32").is_good, text
    assert json.loads((run.model / "model.json").read_text())["name"] == "board"


def test_ctrl_c_saves_and_says_how_to_go_on_and_resume_finishes_it(local, profile, tmp_path):
    process = local(profile, "--set", "train.epochs=200", python=sys.executable)
    wait_for_checkpoint(tmp_path, process)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    text, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 75, text
    run = only_run(tmp_path)
    assert f"resume with: python -m hpctrain.local --resume runs/board/{run.run_id}" in text
    saved = max(int(path.name.removeprefix("step-")) for path in run.checkpoints.iterdir())
    finished(local("--resume", run.path, "--set", f"train.max_steps={saved + 3}"))
    starts = [record["start_step"] for record in run.read_metrics("event") if record["event"] == "started"]
    assert starts == [0, saved]
    assert "is finished" in finished(local(profile, "--resume"))


def test_after_a_power_cut_resume_goes_on_from_the_newest_checkpoint(local, profile, tmp_path):
    process = local(profile, "--resume", "--set", "train.epochs=200")
    wait_for_checkpoint(tmp_path, process)
    run = only_run(tmp_path)
    pids = [process.pid, *(json.loads(path.read_text())["pid"] for path in run.heartbeats.iterdir())]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=SECONDS)
    saved = max(int(path.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*"))
    finished(local("--resume", run.path, "--set", f"train.max_steps={saved + 3}"))
    assert only_run(tmp_path).path == run.path, "no second run was begun"
    starts = [record["start_step"] for record in run.read_metrics("event") if record["event"] == "started"]
    assert starts[0] == 0
    assert starts[1] >= saved - 2


def test_from_takes_the_network_of_the_run_it_starts_from(local, profile, make_run, start, tmp_path):
    source = make_run(train={"epochs": 1, "warmup_steps": 2})
    assert start(source).wait() == [0]
    smaller = ["--set", "model.decoder_hidden=[4]", "model.latent_size=2", "train.max_steps=3", "train.epochs=1"]
    text = finished(local(profile, "--runs-dir", "tuned", "--from", source.path, *smaller, "train.warmup_steps=0"))
    (tuned,) = (tmp_path / "tuned" / "board").iterdir()
    assert load_profile(tuned / "profile.yaml").model.latent_size == SMALL_NETWORK["latent_size"], text
    assert load_profile(tuned / "profile.yaml").train.init_from == str(source.path)
    assert "UserWarning" not in text


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        ([], "which profile?", 2),
        (["absent.yaml"], "absent.yaml", 2),
        (["profile.yaml", "--from", "absent"], "train.init_from: 'absent' does not exist", 2),
        (["--resume", "absent"], "absent", 2),
        (["profile.yaml", "--set", "train.batchsize=2"], "did you mean 'batch_size'", 2),
        (["--infer", "absent", "x.h5"], "no bundle here", 5),
    ],
    ids=["nothing", "no profile", "no source", "no run", "unknown key", "no bundle"],
)
def test_a_mistake_gets_one_clear_error(local, profile, tmp_path, arguments, message, code):
    text, _ = (process := local(*arguments)).communicate(timeout=SECONDS)
    assert process.returncode == code, text
    assert message in text
    assert "Traceback" not in text
