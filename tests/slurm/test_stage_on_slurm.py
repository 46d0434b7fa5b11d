"""Stage by stage through a pipeline on a real Slurm, as an orchestrator does: submit, look, and be told the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster, wait_until

from hpctrain.cli import main
from hpctrain.pipeline.folder import DONE, GATE_FAILED, PipelineDir
from hpctrain.pipeline.run import job_states
from hpctrain.states import ACTIVE

pytestmark = pytest.mark.slurm

PIPELINE = """\
name: weekly
launch: {cluster: slurm, gpus_per_node: 0}
stages:
  - {name: copy, run: "cp raw.txt {out}", inputs: [raw.txt]}
  - {name: gate, kind: command, run: "sh verdict.sh"}
"""


@pytest.fixture
def pipeline(slurm: SlurmCluster, monkeypatch) -> PipelineDir:
    """A pipeline of which no stage was called yet."""
    folder = slurm.fresh_dir()
    for name, text in {"weekly.yaml": PIPELINE, "raw.txt": "new", "verdict.sh": "exit 7"}.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SLURM_CONF", slurm.env["SLURM_CONF"])
    return PipelineDir(Path("pipelines/weekly/a"))


def do(stage: str) -> int:
    return main(["pipeline", "weekly.yaml", "--stage", stage, "--id", "a"])


def job(pipeline: PipelineDir, stage: str) -> str:
    return pipeline.read_record()["jobs"][stage]


def is_over(pipeline: PipelineDir, stage: str) -> bool:
    return job_states(pipeline)[stage] not in (*ACTIVE, "ending")


def test_each_call_submits_a_job_or_says_what_has_become_of_it(pipeline, slurm, capsys):
    assert do("gate") == 4, "copy is not done"
    assert do("copy") == 75
    first = job(pipeline, "copy")
    assert do("copy") == 75
    assert job(pipeline, "copy") == first, "it was not submitted twice"
    wait_until(lambda: is_over(pipeline, "copy"), "the first job", pause_s=0.2)
    assert do("copy") == 0
    assert pipeline.stage("copy").read_state().state == DONE
    assert do("gate") == 75
    wait_until(lambda: is_over(pipeline, "gate"), "the gate", pause_s=0.2)
    capsys.readouterr()
    assert do("gate") == 7
    assert "has ended, exit code 7; its log is in" in capsys.readouterr().out
    assert pipeline.stage("gate").read_state().state == GATE_FAILED
    Path("verdict.sh").write_text("sleep 600")
    assert do("gate") == 75, "a call after the end submits it again"
    slurm.run(f"scancel {job(pipeline, 'gate')}")
    wait_until(lambda: is_over(pipeline, "gate"), "the end of the gate", pause_s=0.2)
    assert do("gate") == 130, "somebody has cancelled it"
