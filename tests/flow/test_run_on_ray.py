"""Runs on a real Ray: a node is killed in mid-run and the bits stay, fewer nodes go on, a run is cancelled and resumed.

It runs with ``ALL_FAULTS=1`` in the environment alone, because Ray needs more CPU time than all else in the runs.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from families import TINY, profile_values
from processes import wait_until
from ray_lab import RayNodes, ray_jobs_python, ray_python

from hpctrain import states
from hpctrain.launch.history import read_history
from hpctrain.launch.runs import newest_job
from hpctrain.launch.status import describe
from hpctrain.launch.stop import cancel
from hpctrain.launch.targets import target_of
from hpctrain.profile.load import load_profile
from hpctrain.rundir import RunDir, all_runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="needs minutes; set ALL_FAULTS=1"),
    pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the parents of processes"),
]

NUM_STEPS = 150


@pytest.fixture
def nodes() -> Iterator[RayNodes]:
    with RayNodes(ray_python()) as nodes:
        yield nodes


@pytest.fixture
def nodes_with_jobs() -> Iterator[RayNodes]:
    with RayNodes(ray_jobs_python(), with_jobs=True) as nodes:
        yield nodes


@pytest.fixture
def folder(tmp_path, nodes, monkeypatch) -> Path:
    return prepared(tmp_path, nodes, monkeypatch)


def prepared(tmp_path: Path, nodes: RayNodes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with a profile of two nodes that takes seconds, and a site that waits 5 s for the second one."""
    tiny = TINY["spectral_vae"]
    values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))
    values["launch"] |= {"cluster": "ray", "nodes": 2, "gpus_per_node": 0, "cpus_per_rank": 1, "site": "lab"}
    values["train"] |= {"epochs": 10_000, "max_steps": NUM_STEPS, "evaluate_every_steps": 50, "log_every_steps": 1}
    values["checkpoint"] = {"every_steps": 10}
    values["monitor"] = {"heartbeat_s": 1}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    sites = tmp_path / "sites"
    sites.mkdir()
    (sites / "lab.yaml").write_text(yaml.safe_dump({"ray": {"wait_s": 5}}))
    for environment in (os.environ, nodes.environment):
        monkeypatch.setitem(environment, "HPCTRAIN_SITES", str(sites))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def submitted(nodes: RayNodes, folder: Path, *words: str) -> RunDir:
    nodes.types("submit", "run.yaml", "--no-memory", *words, cwd=folder)
    (run,) = all_runs(folder / "runs")
    return run


def all_logs(run: RunDir) -> str:
    return "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}" for path in sorted(run.logs.glob("*.log")))


def parents_of(pid: int) -> list[int]:
    """Return the numbers of the processes above this one."""
    found: list[int] = []
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        found.append(pid)
    return found


def rank_below(run: RunDir, node: int, step: int) -> int | None:
    """Return the process of the rank that a node of Ray runs, once it has done some steps."""
    beats = [beat for beat in run.read_heartbeats() if beat.get("step", 0) >= step]
    return next((beat["pid"] for beat in beats if node in parents_of(beat["pid"])), None)


def kill_without_warning(nodes: RayNodes, run: RunDir, node: int) -> None:
    """Kill a node of Ray and all that it runs for the run; the rank there has no time to save."""
    wait_until(lambda: rank_below(run, node, 20), lambda: all_logs(run))
    pid = rank_below(run, node, 20)
    chain = parents_of(pid)
    for process in [*reversed(chain[: chain.index(node)]), pid]:  # the process of Ray first: it can report nothing
        os.kill(process, signal.SIGKILL)
    nodes.kill()


def steps_of(run: RunDir) -> list[int]:
    return [record["step"] for record in run.read_metrics("train")]


def test_a_run_whose_node_is_killed_ends_with_the_same_bits_on_another_one(nodes, folder, start):
    run = submitted(nodes, folder)  # one node is there, and the run waits for two
    waiting = describe(run)
    assert (waiting.state, waiting.source) == (states.PENDING, "controller")
    assert "2 nodes" in waiting.detail
    node = nodes.add()
    kill_without_warning(nodes, run, node)
    nodes.add()
    wait_until(lambda: describe(run).state == states.FINISHED, lambda: all_logs(run))
    (log,) = target_of(run).logs(newest_job(run))
    assert re.search("node [01] is lost", log.read_text())
    assert [attempt["world_size"] for attempt in run.read_attempts()] == [2, 2]
    assert [ended.followed for ended in read_history(run)] == ["requeued", "finished"]
    assert read_history(run)[-1].before != "none"
    assert steps_of(run) == list(range(1, NUM_STEPS + 1))
    straight = RunDir.create(folder / "straight", "straight")
    values = yaml.safe_load(run.profile.read_text())
    values["launch"] |= {"nodes": 1, "ranks_per_node": 2, "cluster": "local"}
    straight.profile.write_text(yaml.safe_dump(values))
    assert start(straight, 2).wait() == [0, 0]
    name = "model.safetensors"
    assert (run.model / name).read_bytes() == (straight.model / name).read_bytes()


def test_a_run_goes_on_with_fewer_nodes_where_ray_has_no_more(nodes, folder):
    node = nodes.add()
    run = submitted(nodes, folder, "--set", "launch.min_nodes=1")
    before = load_profile(run.profile)
    kill_without_warning(nodes, run, node)
    wait_until(lambda: describe(run).state == states.FINISHED, lambda: all_logs(run))
    assert [attempt["world_size"] for attempt in run.read_attempts()] == [2, 1]
    assert [attempt["profile"]["launch"]["nodes"] for attempt in run.read_attempts()] == [2, 1]
    assert steps_of(run) == list(range(1, NUM_STEPS + 1))
    assert {record["samples_seen"] // record["step"] for record in run.read_metrics("train")} == {before.global_batch}
    wait_until(lambda: load_profile(run.profile).launch.nodes == 2, lambda: all_logs(run))  # as its user wants it
    assert load_profile(run.profile).global_batch == before.global_batch


def test_a_run_that_a_client_submits_is_warned_cancelled_and_resumed(nodes, folder):
    run = submitted_by(f"ray://127.0.0.1:{nodes.client_port}", nodes, folder)
    assert_it_is_warned_cancelled_and_resumed(run, nodes, folder)


def test_a_run_that_ray_jobs_submit_is_warned_cancelled_and_resumed(nodes_with_jobs, tmp_path, monkeypatch):
    nodes, folder = nodes_with_jobs, prepared(tmp_path, nodes_with_jobs, monkeypatch)
    address = f"http://127.0.0.1:{nodes.jobs_port}"
    run = submitted_by(address, nodes, folder)
    first = newest_job(run).id
    assert_it_is_warned_cancelled_and_resumed(run, nodes, folder)
    jobs = [first, newest_job(run).id]
    assert len(set(jobs)) == 2
    for job in jobs:  # they have started the run, and ended long before it
        said = nodes.asks_ray("job", "status", job, "--address", address)
        assert "SUCCEEDED" in said or "succeeded" in said


def submitted_by(address: str, nodes: RayNodes, folder: Path) -> RunDir:
    (folder / "sites/lab.yaml").write_text(yaml.safe_dump({"ray": {"address": address}}))
    return submitted(nodes, folder, "--set", "launch.nodes=1", "train.max_steps=3000")


def assert_it_is_warned_cancelled_and_resumed(run: RunDir, nodes: RayNodes, folder: Path) -> None:
    wait_until(lambda: describe(run).step >= 5, lambda: all_logs(run))
    assert describe(run).state == states.RUNNING
    assert json.loads(nodes.types("status", str(run.path), "--json", cwd=folder))["state"] == states.RUNNING
    target_of(run).warn(newest_job(run))
    wait_until(lambda: len(run.read_attempts()) == 2, lambda: all_logs(run))
    wait_until(lambda: run.read_heartbeats()[0].get("attempt") == 2, lambda: all_logs(run))
    assert "asked the controller" in cancel(run)
    wait_until(lambda: describe(run).state == states.CANCELLED, lambda: all_logs(run))
    assert [(ended.exit_code, ended.followed) for ended in read_history(run)] == [(75, "requeued"), (75, "terminated")]
    step = describe(run).step
    more = f"train.max_steps={step + 20}"
    nodes.types("submit", "--resume", str(run.path), "--no-memory", "--set", more, cwd=folder)
    wait_until(lambda: describe(run).state == states.FINISHED, lambda: all_logs(run))
    assert steps_of(run) == list(range(1, step + 21))
    assert f"attempt 3 started at step {step}" in nodes.types("logs", str(run.path), cwd=folder)
