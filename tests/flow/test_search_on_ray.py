"""A study on a real Ray of two nodes, one of which is killed in mid-study: no trial is lost and no step is repeated.

It runs with ``ALL_FAULTS=1`` in the environment alone, because Ray needs more CPU time than all else in the study.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import yaml
from families import TINY, profile_values
from processes import wait_until
from ray_lab import RayNodes, ray_python

from hpctrain.cli import main
from hpctrain.launch.history import read_history
from hpctrain.launch.supervisor import lock_holder
from hpctrain.search.folder import StudyDir, TrialDir, find_study
from hpctrain.search.pool import pool_process
from hpctrain.search.trials import read_trials

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("ALL_FAULTS") != "1", reason="needs minutes; set ALL_FAULTS=1"),
    pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel for the parents of processes"),
]

NUM_STEPS = 120
STUDY = """\
name: searched
base: base.yaml
space:
  train.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
pruner: {name: median, startup_trials: 2, min_evaluations: 2}
trials: 3
parallel: 2
engine: ray
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a study of trials that take seconds."""
    tiny = TINY["spectral_vae"]
    values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))
    values["train"] |= {"epochs": 10_000, "max_steps": NUM_STEPS, "evaluate_every_steps": 40, "log_every_steps": 1}
    values["checkpoint"] = {"every_steps": 10}
    values["monitor"] = {"heartbeat_s": 1}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parent_of(pid: int) -> int:
    """Return the number of the process that started this one; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def trial_below(study: StudyDir, node: int) -> TrialDir | None:
    """Return the trial that a node of Ray runs and that has done some steps: node, worker, supervisor."""
    for trial in read_trials(study):
        directory = study.trial(trial.number)
        holder = lock_holder(directory)
        if holder and parent_of(parent_of(holder)) == node and trial.step >= 20:
            return directory
    return None


def test_trials_of_a_dead_node_go_on_elsewhere(folder, capsys):
    with RayNodes(ray_python()) as nodes:
        nodes.types("search", "study.yaml", "--no-memory", cwd=folder)  # its driver is of the node that is there
        study = find_study("searched", folder / "runs")
        node = nodes.add()
        wait_until(lambda: trial_below(study, node), lambda: (study.path / "pool.log").read_text()[-2000:])
        killed = trial_below(study, node)
        os.kill(killed.read_heartbeats()[0]["pid"], signal.SIGSTOP)  # as on a node that dies, no rank saves
        nodes.kill()
        wait_until(lambda: lock_holder(killed) is None, "the end of the supervisor")
        os.kill(killed.read_heartbeats()[0]["pid"], signal.SIGKILL)
        wait_until(lambda: pool_process(study) is None, lambda: (study.path / "pool.log").read_text()[-2000:])
    trials = read_trials(study)
    assert all(trial.state in ("finished", "pruned") for trial in trials), (study.path / "pool.log").read_text()
    for trial in trials:
        steps = [record["step"] for record in study.trial(trial.number).read_metrics("train")]
        assert steps == list(range(1, trial.step + 1))
        assert trial.step == NUM_STEPS or trial.state == "pruned"
        assert len(study.trial(trial.number).read_attempts()) == (2 if trial.number == killed.number else 1)
    assert read_history(killed)[-1].before != "none"  # the second attempt began from a checkpoint
    assert main(["search", "best", str(study.path)]) == 0
    assert "best run" in capsys.readouterr().out


def test_a_client_of_ray_starts_a_study_and_leaves(folder, capsys):
    with RayNodes(ray_python()) as nodes:
        address = f"ray://127.0.0.1:{nodes.client_port}"
        text = STUDY.replace("engine: ray", f"engine: {{name: ray, address: '{address}'}}")
        (folder / "study.yaml").write_text(text.replace("pruner:", "# pruner:"))
        nodes.types("search", "study.yaml", "--no-memory", "--set", "trials=2", cwd=folder)
        study = find_study("searched", folder / "runs")
        wait_until(lambda: pool_process(study) is None, lambda: (study.path / "pool.log").read_text()[-2000:])
    assert [trial.state for trial in read_trials(study)] == ["finished"] * 2, (study.path / "pool.log").read_text()
