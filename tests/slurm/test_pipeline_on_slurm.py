"""A pipeline on a real Slurm, one job per stage: a stage that is killed is done again, a gate that fails ends it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import yaml
from families import TINY, profile_values
from slurm_cluster import REPOSITORY, SlurmCluster, wait_until

from hpctrain.launch.history import read_history
from hpctrain.pipeline.folder import DONE, GATE_FAILED, RUNNING, WAITING, PipelineDir, find_pipeline

pytestmark = pytest.mark.slurm

PIPELINE = """\
name: weekly
launch: {cluster: slurm, gpus_per_node: 0}
stages:
  - {name: ingest, run: ["cp raw.h5 {out}/data.h5", "sleep 3"], inputs: [raw.h5]}
  - {name: train, profile: base.yaml, set: ['data.files=["{ingest}/data.h5"]']}
  - {name: gate}
  - {name: after, run: "cp {gate}/nothing {out}", needs: [gate]}
"""


@pytest.fixture(scope="module")
def pipeline(slurm: SlurmCluster) -> PipelineDir:
    """A pipeline whose first stage was killed, and whose gate fails."""
    folder = slurm.fresh_dir()
    tiny = TINY["trees"]
    values = profile_values(tiny, tiny.tiny_file(folder / "raw.h5"))
    values["launch"] = {"gpus_per_node": 0, "cpus_per_rank": 1, "ranks_per_node": 1}
    gates = {"gates": [{"metric": "size.rmse", "below": 0.0, "min_objects": 2}], "draws": 100}
    (folder / "base.yaml").write_text(yaml.safe_dump({**values, "validate": gates}))
    (folder / "weekly.yaml").write_text(PIPELINE)
    types(slurm, folder, "hpctrain pipeline weekly.yaml")
    found = find_pipeline("weekly", folder / "pipelines")
    wait_until(lambda: found.stage("ingest").read_state().state == RUNNING, "the first stage")
    os.kill(process_of(found), signal.SIGKILL)
    wait_until(lambda: found.stage("gate").read_state().state == GATE_FAILED, "the gate", pause_s=0.5)
    return found


def types(slurm: SlurmCluster, folder: Path, command: str) -> str:
    path = f"{REPOSITORY / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return slurm.run(command, cwd=folder, env={"PATH": path}).stdout


def process_of(pipeline: PipelineDir) -> int:
    """Return the process that does the first stage."""
    found: list[int] = []

    def look() -> bool:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if (
                "hpctrain.pipeline.stage" in words
                and str(pipeline.stage("ingest").path) in words
                and "srun" not in words[0]
            ):
                found.append(int(path.parent.name))
        return bool(found)

    wait_until(look, "the process of the first stage")
    return found[0]


def test_a_stage_that_is_killed_is_done_again_and_the_next_ones_wait_for_it(pipeline):
    assert [each.followed for each in read_history(pipeline.stage("ingest"))] == ["requeued", "finished"]
    assert pipeline.stage("ingest").read_state().state == DONE
    assert pipeline.stage("train").read_state().state == DONE
    assert (pipeline.stage("train").path / "model/model.safetensors").exists()


def test_a_gate_that_fails_ends_the_pipeline_without_another_attempt(pipeline, slurm):
    assert pipeline.stage("after").read_state().state == WAITING
    folder = pipeline.path.parents[2]
    stages = {
        each["stage"]: each
        for each in json.loads(types(slurm, folder, "hpctrain pipeline status weekly --json"))["stages"]
    }
    assert (stages["gate"]["state"], stages["gate"]["exit_code"]) == (GATE_FAILED, 7)
    wait_until(lambda: [each.followed for each in read_history(pipeline.stage("gate"))] == ["failed"], "its end")
