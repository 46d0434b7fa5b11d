"""A run that moves from platform to platform ends with the bits of one that never moved.

It begins as a job of a real Slurm, goes on as a local run, in the pods of an indexed Job, on two nodes of a real Ray,
and at SageMaker, whose folders and variables are played here, on a machine that has only what the platform brings.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from families import TINY, profile_values
from processes import wait_until
from ray_lab import RayNodes, ray_python
from slurm_cluster import SlurmCluster

from hpctrain import states
from hpctrain.checkpoint.mirror import Mirror, pull
from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.launch.history import read_history
from hpctrain.launch.ranks import free_port
from hpctrain.launch.status import describe
from hpctrain.launch.stop import cancel
from hpctrain.launch.submit import prepare, submit
from hpctrain.profile.load import load_profile
from hpctrain.rundir import RunDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="eight starts of ranks; set ALL_FAULTS=1"),
]

TOTAL_STEPS = 240
TRAINER = [sys.executable, "-u", "-m", "hpctrain.train"]


@pytest.fixture(scope="module")
def profile(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("data")
    tiny = TINY["spectral_vae"]
    values = profile_values(tiny, tiny.tiny_file(folder / "data.h5"))
    values["name"] = "moved"
    values["train"] |= {"epochs": 100_000, "max_steps": TOTAL_STEPS, "evaluate_every_steps": 60, "log_every_steps": 1}
    values["checkpoint"] = {"every_steps": 20}
    values["launch"] = {"ranks_per_node": 2, "gpus_per_node": 0, "cpus_per_rank": 1, "signal_lead_s": 1}
    return values


def a_run(folder: Path, profile: dict) -> RunDir:
    run = RunDir.create(folder, "moved", "20270115-080000-aaaa")
    run.profile.write_text(yaml.safe_dump(profile))
    job = {
        "trainer": TRAINER,
        "environment": {"OMP_NUM_THREADS": "1"},
        "world_size": 2,
        "requeue": True,
        "max_attempts": 20,
        "max_attempts_without_progress": 3,
        "submitted_at": time.time(),
        "submissions": [],
    }
    run.job.write_text(json.dumps(job))
    return run


def on_slurm(cluster: SlurmCluster, profile: dict, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """Submit the run to a real Slurm."""
    folder = cluster.fresh_dir()
    monkeypatch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
    values = {**profile, "launch": {**profile["launch"], "runs_dir": str(folder), "time_limit": "00:10:00"}}
    (folder / "profile.yaml").write_text(yaml.safe_dump(values))
    submission = prepare([load_profile(folder / "profile.yaml")], "slurm", None)
    submit(submission, folder)
    return submission.runs[0]


def start(module: str, *words: object, **variables: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen([sys.executable, "-u", "-m", module, *map(str, words)], env=environment)


def stop_after(run: RunDir, step: int, processes: list[subprocess.Popen[bytes]], number: int) -> list[int]:
    wait_until(lambda: max((item["step"] for item in run.read_metrics("train")), default=0) >= step, run)
    for process in processes:
        process.send_signal(number)
    return [process.wait() for process in processes]


def newest(run: RunDir) -> int:
    return list_checkpoints(run)[0][0]


def in_pods(run: RunDir) -> list[subprocess.Popen[bytes]]:
    """Start the two pods of an indexed Job."""
    words = {
        "HPCTRAIN_NODES": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "HPCTRAIN_JOB_ID": "k8s",
    }
    return [start("hpctrain.launch.pod", run.path, JOB_COMPLETION_INDEX=str(node), **words) for node in range(2)]


def on_ray_until(run: RunDir, step: int) -> None:
    """Resume the run on two nodes of a real Ray, and cancel it after some steps."""
    with RayNodes(ray_python()) as nodes:
        nodes.add()
        shape = ("--set", "launch.nodes=2", "launch.ranks_per_node=1")
        words = ("submit", "--resume", str(run.path), "--cluster", "ray", "--no-memory", *shape)
        nodes.types(*words, cwd=run.path.parents[1])
        wait_until(lambda: max((item["step"] for item in run.read_metrics("train")), default=0) >= step, run)
        cancel(run)
        wait_until(lambda: describe(run).state == states.CANCELLED, run)


class SageMaker:
    """The folders of a container of SageMaker, on a disk of its own; its checkpoints are copied to and from a bucket.

    Parameters
    ----------
    folder : Path
        Of this machine's disk, which takes the place of ``/opt`` for the container.
    bucket : Path
        With the checkpoints.
    run_id : str
    files : RunDir
        Whose profile and ``job.json`` the job brings.
    """

    def __init__(self, folder: Path, bucket: Path, run_id: str, files: RunDir) -> None:
        self.folder, self.bucket, self._run_id = folder / "opt/ml", bucket, run_id
        shutil.rmtree(folder, ignore_errors=True)
        (self.folder / "input/config").mkdir(parents=True)
        hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
        (self.folder / "input/config/resourceconfig.json").write_text(json.dumps(hosts))
        channel = self.folder / "input/data/hpctrain"
        channel.mkdir(parents=True)
        for path in (files.profile, files.job):
            shutil.copyfile(path, channel / path.name)
        (self.folder / "checkpoints").mkdir()
        if bucket.exists():
            shutil.copytree(bucket, self.folder / "checkpoints", dirs_exist_ok=True)
        self._ended = threading.Event()
        self._copies = threading.Thread(target=self._copy, daemon=True)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the container: the same command as in the request."""
        run_dir = f"/opt/ml/checkpoints/moved/{self._run_id}"
        command = [sys.executable, "-u", "-m", "hpctrain.launch.pod", run_dir, "--files", "/opt/ml/input/data/hpctrain"]
        inside = f"mount --bind {self.folder.parent} /opt && exec " + subprocess.list2cmdline(command)
        self._copies.start()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HPCTRAIN_JOB_ID": "moved", "HPCTRAIN_RESTART_INSIDE": "1"}
        return subprocess.Popen(["unshare", "-m", "sh", "-c", inside], env=environment)

    def end(self) -> None:
        """Take the machine away: what is not in the bucket by now is lost."""
        self._ended.set()
        self._copies.join()

    def _copy(self) -> None:
        """Copy all the time, as the platform does, also files that are being written."""
        while not self._ended.wait(0.2):
            with contextlib.suppress(shutil.Error, OSError):  # files that vanish meanwhile
                shutil.copytree(self.folder / "checkpoints", self.bucket, dirs_exist_ok=True)


def can_mount() -> bool:
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0 or not can_mount(), reason="needs root for a mount of its own at /opt")
@pytest.mark.slurm
def test_from_slurm_to_a_local_run_to_pods_to_sagemaker_the_bits_stay(profile, slurm, tmp_path, monkeypatch):
    straight = a_run(tmp_path / "straight", profile)
    assert [process.wait() for process in in_pods(straight)] == [0, 0]

    run = on_slurm(slurm, profile, monkeypatch)
    wait_until(lambda: max((item["step"] for item in run.read_metrics("train")), default=0) >= 20, run)
    cancel(run)
    wait_until(lambda: read_history(run), run)
    assert read_history(run)[-1].followed == "terminated"
    begun = newest(run)

    supervisor = start("hpctrain.launch.supervisor", run.path)
    assert stop_after(run, begun + 20, [supervisor], signal.SIGTERM) == [75]
    first = newest(run)
    assert first > begun

    assert stop_after(run, first + 40, in_pods(run), signal.SIGTERM) == [75, 75]
    pods = in_pods(run)
    assert stop_after(run, newest(run) + 30, pods[:1], signal.SIGKILL) == [-signal.SIGKILL]
    assert pods[1].wait() in (75, 76)  # the ranks of a killed container get TERM here, and may save
    assert newest(run) > first

    before = newest(run)
    on_ray_until(run, before + 20)
    assert newest(run) > before

    bucket = tmp_path / "bucket"
    shutil.copytree(run.path, bucket / "moved" / run.run_id)
    shutil.rmtree(run.path)
    machine = SageMaker(tmp_path / "machine", bucket, run.run_id, a_run(tmp_path / "submitted", profile))
    there = RunDir(machine.folder / "checkpoints/moved" / run.run_id)
    container = machine.start()
    assert stop_after(there, newest(there) + 40, [container], signal.SIGTERM) == [75]
    machine.end()

    machine = SageMaker(tmp_path / "machine", bucket, run.run_id, a_run(tmp_path / "submitted again", profile))
    container = machine.start()
    assert container.wait() == 0
    machine.end()

    last = RunDir(tmp_path / "last/moved" / run.run_id)
    assert pull(Mirror(f"file://{bucket}/moved/{run.run_id}"), last).step == TOTAL_STEPS
    weights = "model/model.safetensors"
    assert (last.path / weights).read_bytes() == (straight.path / weights).read_bytes()
    assert {ended.job_id for ended in read_history(last)} >= {"k8s", "moved"}
    assert len({ended.job_id for ended in read_history(last)}) == 5
