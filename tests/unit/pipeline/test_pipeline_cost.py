"""The cost of a stage holds all its attempts, also those that were killed; that of a training its GPUs and energy."""

from __future__ import annotations

import json
import os
import time

import pytest

from hpctrain.launch.history import EndedAttempt, append_history
from hpctrain.monitor.ledger import Ledger
from hpctrain.pipeline.cost import Cost, begin_attempt, cost_of, end_attempt, total
from hpctrain.pipeline.describe import lines_of, mermaid, states_of
from hpctrain.pipeline.file import read_pipeline
from hpctrain.pipeline.folder import DONE, FAILED, StageState
from hpctrain.pipeline.run import open_pipeline

PIPELINE = """\
name: weekly
launch: {cluster: local}
stages:
  - {name: features, run: "true", launch: {cpus: 4, gpus: 1}}
  - {name: train, profile: forest.yaml}
"""
PROFILE = """\
name: forest
launch: {nodes: 1, gpus_per_node: 4, cpus_per_rank: 8}
data: {files: [galaxies.h5], features: [g, r]}
model: {family: trees, labels: [{column: z, kind: value}]}
"""


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weekly.yaml").write_text(PIPELINE)
    (tmp_path / "forest.yaml").write_text(PROFILE)
    (tmp_path / "galaxies.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    return open_pipeline(read_pipeline("weekly.yaml"))


def test_a_killed_attempt_lasted_until_it_wrote_something_last(pipeline):
    stage = pipeline.stage("features")
    work = stage.work("key")
    work.mkdir(parents=True)
    stage.write_state(StageState("running", "key"))
    begin_attempt(stage, work)
    began = time.time()
    (work / "log.txt").touch()
    for path in (work / "log.txt", work):
        os.utime(path, (began + 3600, began + 3600))
    assert cost_of(stage).seconds == pytest.approx(3600, abs=5), "it is killed, and not called again yet"
    begin_attempt(stage, work)
    end_attempt(stage)
    cost = cost_of(stage)
    assert (cost.attempts, cost.kwh) == (2, None)
    assert cost.cpu_h == pytest.approx(4, abs=0.01)
    assert cost.gpu_h == pytest.approx(1, abs=0.01)


def test_an_attempt_in_a_job_lasted_until_the_job_ended(pipeline):
    stage = pipeline.stage("features")
    stage.make_folders()
    stage.write_state(StageState("running", "key"))
    begin_attempt(stage, stage.work("key"))
    append_history(stage, EndedAttempt(time.time() + 1800, "1", 0, 137, "none", "none", "terminated"))
    assert cost_of(stage).seconds == pytest.approx(1800, abs=5)


def test_a_training_costs_what_all_its_ranks_had_and_sensors_measured(pipeline):
    stage = pipeline.stage("train")
    stage.make_folders()
    stage.profile.write_text(PROFILE)
    for number, start in ((1, 1000.0), (2, 9000.0)):
        lease = {"job_id": str(number), "started_at": start, "world_size": 4, "host": "n1"}
        (stage.attempts / f"{number:06d}.json").write_text(json.dumps(lease))
        append_history(stage, EndedAttempt(start + 1800, str(number), 0, 0, "none", "none", "finished"))
        for rank in range(4):
            sums = {"energy_j": 3.6e6, "by_source_j": {"gpu": 3.6e6}, "measured_s": 1800.0, "unmeasured_s": 0.0}
            Ledger(stage, rank, number, "n1").write(1, {}, sums, 10.0)
    stage.write_state(StageState(FAILED, "key", [], 1000.0, 10800.0, 1))
    assert cost_of(stage) == Cost(3600.0, 32.0, 4.0, 8.0, 2)
    pipeline.stage("features").write_state(StageState(DONE, "gone"))
    said = list(lines_of(pipeline))
    assert said[3].split() == ["[!]", "train", "failed", "-", "1", "h", "00", "min", "32", "4", "8"]
    assert said[-1].split()[-3:] == ["32", "4", "8"]
    assert "1 h 00 min, 32 CPU h, 4 GPU h, 8 kWh" in mermaid(pipeline)
    assert [each["saved"] for each in states_of(pipeline)] == [None, None]


def test_energy_that_nobody_measured_is_not_zero():
    assert total([Cost(1.0), Cost(2.0)]).kwh is None
    assert total([Cost(1.0, kwh=0.5), Cost(2.0)]).kwh == 0.5
