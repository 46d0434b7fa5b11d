"""A run with ``launch.engine: ray`` on a real Slurm: Ray, nodes and the job itself are hit in mid-run.

It runs with ``ALL_FAULTS=1`` in the environment alone, because Ray needs more CPU time than all else in the runs.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from families import TINY, profile_values
from node_processes import command_name, environment_of, is_at_work, send
from processes import wait_until
from ray_lab import ray_python
from slurm_cluster import REPOSITORY, SlurmCluster, missing_commands

from hpctrain import states
from hpctrain.launch.history import read_history
from hpctrain.launch.runs import newest_job
from hpctrain.launch.status import describe
from hpctrain.launch.stop import cancel
from hpctrain.launch.targets import target_of
from hpctrain.profile.load import load_profile
from hpctrain.rundir import RunDir, all_runs

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="needs minutes; set ALL_FAULTS=1"),
    pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for processes"),
]


class User:
    """Sits in a folder with a profile of two nodes that takes seconds, and types commands."""

    def __init__(self, cluster: SlurmCluster, python: Path) -> None:
        self.cluster, self._python = cluster, python
        self.folder = cluster.fresh_dir()
        tiny = TINY["spectral_vae"]
        values = profile_values(tiny, tiny.tiny_file(self.folder / "data.h5"))
        values["launch"] |= {"cluster": "slurm", "engine": "ray", "nodes": 2, "gpus_per_node": 0, "cpus_per_rank": 1}
        values["launch"] |= {"site": "lab", "time_limit": "00:30:00", "signal_lead_s": 60}
        values["train"] |= {"epochs": 10_000, "evaluate_every_steps": 50, "log_every_steps": 1}
        values["checkpoint"] = {"every_steps": 10}
        values["monitor"] = {"heartbeat_s": 1}
        (self.folder / "run.yaml").write_text(yaml.safe_dump(values))
        (self.folder / "sites").mkdir()
        self.waits_for_nodes(600)

    def waits_for_nodes(self, wait_s: int) -> None:
        (self.folder / "sites/lab.yaml").write_text(yaml.safe_dump({"ray": {"wait_s": wait_s}}))

    def types(self, *words: str) -> str:
        environment = {"PYTHONPATH": str(REPOSITORY), "HPCTRAIN_SITES": str(self.folder / "sites")}
        command = [self._python, "-m", "hpctrain", *words]
        return self.cluster.run(command, cwd=self.folder, env=environment).stdout

    def submits(self, *words: str) -> RunDir:
        self.types("submit", "run.yaml", "--no-memory", "--set", *words)
        (run,) = all_runs(self.folder / "runs")
        return run


@pytest.fixture
def slurm() -> Iterator[SlurmCluster]:
    """A Slurm that waits between TERM and KILL as long as it does by default."""
    if missing := missing_commands():
        pytest.skip(f"Slurm is not installed: {missing}")
    cluster = SlurmCluster(["--kill-wait", "30"])
    yield cluster
    cluster.close()


@pytest.fixture
def user(slurm, monkeypatch) -> Iterator[User]:
    user = User(slurm, ray_python())
    monkeypatch.chdir(user.folder)
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, slurm.env[name])
    yield user
    slurm.cancel_all()


def all_logs(run: RunDir) -> str:
    return "\n".join(f"{path.name}:\n{path.read_text()[-3000:]}" for path in sorted(run.logs.glob("*.log")))


def processes(run: RunDir, *words: str, node: str | None = None) -> list[int]:
    """Return the processes of the newest job of a run whose commands have some words, on all nodes or on one."""
    found, job_id = [], newest_job(run).id
    for path in Path("/proc").glob("[0-9]*"):
        pid = int(path.name)
        command, variables = command_name(pid), environment_of(pid)
        is_ours = str(run.path) in command or (
            variables.get("SLURM_CONF") == os.environ["SLURM_CONF"] and variables.get("SLURM_JOB_ID") == job_id
        )
        is_there = node in (None, variables.get("SLURMD_NODENAME"))
        if is_ours and is_there and is_at_work(pid) and all(word in command for word in words):
            found.append(pid)
    return found


def ray_folder(run: RunDir) -> Path:
    """Return the folder of the Ray that runs the run now."""
    (head,) = run.attempts.glob("ray-*.json")
    return Path(json.loads(head.read_text())["folder"])


def has_steps(run: RunDir, attempt: int, number: int) -> bool:
    steps = [record["step"] for record in run.read_metrics("train") if record["attempt"] == attempt]
    return len(steps) >= number


def wait_for_steps(run: RunDir, attempt: int, number: int = 20) -> None:
    wait_until(lambda: has_steps(run, attempt, number), lambda: all_logs(run), pause_s=0.3)


def wait_for_state(run: RunDir, state: str) -> None:
    wait_until(lambda: describe(run).state == state, lambda: all_logs(run), pause_s=0.5)


def assert_nothing_is_left(run: RunDir, folder: Path) -> None:
    wait_until(lambda: not processes(run), lambda: [command_name(pid) for pid in processes(run)], 60, 0.3)
    assert not folder.exists()
    assert list(run.attempts.glob("ray-*")) == []


def nodes_of(run: RunDir) -> list[str]:
    """Return the node of each rank of the newest attempt."""
    beats = sorted(run.read_heartbeats(), key=lambda beat: beat["rank"])
    newest = max(beat["attempt"] for beat in beats)
    return [beat["host"] for beat in beats if beat["attempt"] == newest]


def steps_of(run: RunDir) -> list[int]:
    return [record["step"] for record in run.read_metrics("train")]


def test_ray_dies_on_a_node_and_the_time_limit_comes_and_the_bits_stay(user, slurm):
    run = user.submits("train.max_steps=1500")
    job = newest_job(run).id
    wait_for_steps(run, 1)
    folder = ray_folder(run)
    other = next(node for node in nodes_of(run) if node != slurm.job(job)["BatchHost"])
    for name in ("ray::", ".ray_node", "hpctrain.train", "raylet/raylet"):  # nobody is left to report what happens
        send(processes(run, name, node=other), signal.SIGKILL)
    wait_for_steps(run, 2)
    assert slurm.job(job)["Restarts"] == "0", "the job has not lost its allocation"
    slurm.run(["scontrol", "update", f"JobId={job}", "EndTime=now+60"])
    wait_until(lambda: slurm.job(job)["JobState"] == "PENDING", lambda: all_logs(run), pause_s=0.3)
    slurm.run(["scontrol", "update", f"JobId={job}", "TimeLimit=00:30:00"])
    wait_for_steps(run, 3)
    assert slurm.job(job)["Restarts"] == "1"
    wait_for_state(run, states.FINISHED)
    assert [(ended.exit_code, ended.followed) for ended in read_history(run)][1:] == [(75, "requeued"), (0, "finished")]
    assert read_history(run)[0].followed == "requeued"
    assert [attempt["restart_count"] for attempt in run.read_attempts()] == [0, 1, 2]
    assert steps_of(run) == list(range(1, 1501))
    assert_nothing_is_left(run, folder)
    assert "Ray has died on" in target_of(run).logs(newest_job(run))[-1].read_text()
    plain = ["launch.cluster=local", "launch.engine=null", "launch.nodes=1", "launch.ranks_per_node=2"]
    user.types("submit", "run.yaml", "--no-memory", "--wait", "--set", "name=straight", "train.max_steps=1500", *plain)
    (straight,) = [run for run in all_runs(user.folder / "runs") if run.name == "straight"]
    name = "model.safetensors"
    assert (run.model / name).read_bytes() == (straight.model / name).read_bytes()


def test_a_job_goes_on_without_the_node_that_slurm_takes_away_and_asks_for_another_when_it_is_requeued(user, slurm):
    user.waits_for_nodes(40)
    run = user.submits("launch.min_nodes=1", "train.max_steps=100000")
    job = newest_job(run).id
    wait_for_steps(run, 1)
    folder, before = ray_folder(run), load_profile(run.profile)
    other = next(node for node in nodes_of(run) if node != slurm.job(job)["BatchHost"])
    slurm.run(["scontrol", "update", f"NodeName={other}", "State=DOWN", "Reason=test"])
    wait_for_steps(run, 2)
    assert [attempt["world_size"] for attempt in run.read_attempts()] == [2, 1]
    assert slurm.job(job)["Restarts"] == "0", "the job has not lost its allocation"
    assert describe(run).state == states.RUNNING
    target_of(run).warn(newest_job(run))
    wait_for_steps(run, 3)
    assert slurm.job(job)["Restarts"] == "1"
    assert not folder.exists()
    folder = ray_folder(run)
    assert "cancelled" in cancel(run)
    wait_for_state(run, states.CANCELLED)
    assert_nothing_is_left(run, folder)
    assert read_history(run)[-1].followed == "terminated"
    step = steps_of(run)[-1]
    assert steps_of(run) == list(range(1, step + 1))
    assert {record["samples_seen"] // record["step"] for record in run.read_metrics("train")} == {before.global_batch}
    user.types("submit", "--resume", str(run.path), "--no-memory", "--set", f"train.max_steps={step + 20}")
    wait_for_state(run, states.FINISHED)
    assert [attempt["world_size"] for attempt in run.read_attempts()] == [2, 1, 2, 2]
    assert steps_of(run) == list(range(1, step + 21))
