"""A run on a real S3 server: its machine is lost, its network is lost, and it ends with the same bits.

It runs with ``ALL_FAULTS=1`` in the environment alone, because the server is a download of 150 MB.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import yaml
from attempts import EVERYTHING, merged
from processes import wait_until
from s3_lab import S3Server, s3_python

from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.metrics.events import CheckpointMirrored
from hpctrain.rundir import RunDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="downloads 150 MB; set ALL_FAULTS=1"),
]

PLACE = "s3://runs/mirror"


@pytest.fixture(scope="module")
def python() -> Path:
    return s3_python()


@pytest.fixture(scope="module")
def server(python):
    with S3Server(python) as server:
        yield server


@pytest.fixture
def make_run(tmp_path, spectra_file):
    def make(name: str, **checkpoint: object) -> RunDir:
        values = {"name": "exact", "data": {"files": [str(spectra_file)]}, "checkpoint": checkpoint}
        run = RunDir.create(tmp_path / name, "exact")
        run.profile.write_text(yaml.safe_dump(merged(merged(EVERYTHING, {"train": {"epochs": 6}}), values)))
        return run

    return make


def train(python, server, run: RunDir) -> subprocess.Popen[str]:
    with open(run.logs / "train.log", "a") as log:
        command = [python, "-m", "hpctrain.train", str(run.path)]
        return subprocess.Popen(command, env=server.environment, stdout=log, stderr=log, text=True)


def pull(python, server, run: RunDir, folder: Path) -> RunDir:
    address = f"{PLACE}/{run.name}/{run.run_id}"
    command = [python, "-m", "hpctrain", "pull", address, "--runs-dir", str(folder)]
    done = subprocess.run(command, env=server.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return RunDir(folder / run.name / run.run_id)


def events(run, kind) -> list[int]:
    return [record["step"] for record in run.read_metrics("event") if record["event"] == kind.name]


def weights(run: RunDir) -> bytes:
    return (run.model / "model.safetensors").read_bytes()


def test_a_run_goes_on_elsewhere_and_loses_nothing_when_the_network_does(python, server, make_run, tmp_path):
    straight = make_run("straight")
    assert train(python, server, straight).wait() == 0

    run = make_run("here", mirror=PLACE)
    process = train(python, server, run)
    wait_until(lambda: len(events(run, CheckpointMirrored)) >= 1, run.logs / "train.log")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    stopped_at = list_checkpoints(run)[0][0]
    shutil.rmtree(run.path)

    other = pull(python, server, run, tmp_path / "other")
    assert list_checkpoints(other)[0][0] == stopped_at
    server.stop()
    assert train(python, server, other).wait() == 0, (other.logs / "train.log").read_text()
    assert weights(other) == weights(straight)
    assert "cannot be read, this attempt goes on without it" in (said := (other.logs / "train.log").read_text())
    assert "not complete" in said

    server.start()
    assert train(python, server, other).wait() == 0
    last = pull(python, server, run, tmp_path / "last")
    assert list_checkpoints(last)[0][0] == list_checkpoints(other)[0][0]
    assert weights(last) == weights(straight)
    assert not [name for name in server.names() if "labsecret" in name]


def test_a_wrong_key_is_one_clear_line(python, server, make_run, tmp_path):
    command = [python, "-m", "hpctrain", "pull", f"{PLACE}/exact/1", "--runs-dir", str(tmp_path)]
    environment = {**server.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
