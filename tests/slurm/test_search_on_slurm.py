"""A study on a real Slurm, through all that befalls its trials: none is lost, none runs twice, and bits stay."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import REPOSITORY, SlurmCluster, wait_until
from test_launch_train import write_spectra

from hpctrain.rundir import file_digest, read_json
from hpctrain.search.folder import StudyDir, TrialDir, find_study
from hpctrain.search.trials import SEALED, read_trials

pytestmark = pytest.mark.slurm

ALL_FAULTS = bool(os.environ.get("ALL_FAULTS"))
NUM_TRIALS, AT_ONCE = (24, 4) if ALL_FAULTS else (4, 3)
NUM_STEPS = 150
BASE = """\
name: tiny
launch: {ranks_per_node: 1, gpus_per_node: 0, cpus_per_rank: 1, time_limit: "00:10:00", cluster: slurm}
data: {files: [tiny.h5], reader_threads: 0, columns: {mask: null}, split: {validation: 0.2}}
model: {latent_size: 2, encoder_hidden: [8], decoder_hidden: [8], start_simulated: 0, dropout: 0.1}
train:
  {batch_size: 4, epochs: 10000, max_steps: 150, log_every_steps: 1, warmup_steps: 2, device: cpu,
   evaluate_every_steps: 30}
checkpoint: {every_steps: 10}
track: {tensorboard: false}
monitor: {heartbeat_s: 1}
"""
STUDY = f"""\
name: searched
base: base.yaml
space:
  train.learning_rate: {{low: 1.0e-4, high: 1.0e-2, log: true}}
  model.latent_size: [2, 3]
pruner: {{name: median, startup_trials: 3, min_evaluations: 2}}
trials: {NUM_TRIALS}
parallel: {AT_ONCE}
"""


class Study:
    """A study that was submitted, and what befalls its trials."""

    def __init__(self, cluster: SlurmCluster) -> None:
        self.cluster = cluster
        self.folder = cluster.fresh_dir()
        (self.folder / "base.yaml").write_text(BASE)
        (self.folder / "study.yaml").write_text(STUDY)
        write_spectra(self.folder / "tiny.h5")
        self.types("hpctrain search study.yaml --no-memory")
        self.directory: StudyDir = find_study("searched", self.folder / "runs")

    def types(self, command: str) -> str:
        path = f"{REPOSITORY / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return self.cluster.run(command, cwd=self.folder, env={"PATH": path}).stdout

    def job(self, trial: TrialDir) -> str:
        return trial.read_job()["submissions"][-1]["job_id"]

    @contextlib.contextmanager
    def held(self, number: int) -> Iterator[TrialDir]:
        """Hold the rank of a trial after its fifth step, so that what befalls it does so before its end."""
        trial = self.directory.trial(number)
        wait_until(
            lambda: any(record["step"] >= 5 for record in trial.read_metrics("train")),
            f"step 5 of trial {number}",
            pause_s=0.05,
        )
        rank = trial.read_heartbeats()[0]["pid"]
        os.kill(rank, signal.SIGSTOP)
        yield trial
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGCONT)

    def asking(self, trial: TrialDir) -> int:
        """Return the process that chooses the values of a trial, from the moment it exists."""
        found: list[int] = []

        def look() -> bool:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    words = path.read_bytes().decode(errors="replace").split("\0")
                    if "hpctrain.search.ask" in words and str(trial.path) in words:
                        found.append(int(path.parent.name))
            return bool(found)

        wait_until(look, f"the choice of trial {trial.number}", pause_s=0.01)
        return found[0]

    def wait_until_ended(self, numbers: list[int]) -> None:
        def ended() -> bool:
            states = {trial.number: trial.state for trial in read_trials(self.directory)}
            return all(states[number] in SEALED for number in numbers)

        wait_until(ended, f"the end of trials {numbers}", pause_s=1.0)


def is_told_to_end(trial: TrialDir) -> bool:
    """Return whether TERM has reached the rank of a trial, which is held, or KILL has ended it."""
    try:
        text = Path(f"/proc/{trial.read_heartbeats()[0]['pid']}/status").read_text()
    except FileNotFoundError:
        return True
    masks = [int(line.split()[1], 16) for line in text.splitlines() if "Pnd:" in line]
    return any(mask >> (signal.SIGTERM - 1) & 1 for mask in masks)


@pytest.fixture(scope="module")
def study(slurm: SlurmCluster) -> Study:
    """A study whose trials were requeued, killed and cancelled, and that was resumed."""
    study = Study(slurm)
    if ALL_FAULTS:
        os.kill(study.asking(study.directory.trial(3)), signal.SIGKILL)
    assert "nothing to resume" in study.types("hpctrain search resume searched"), "all wait for their tasks"
    with study.held(0) as requeued:
        slurm.run(["scontrol", "requeue", study.job(requeued)])
    with study.held(1) as killed:
        os.kill(killed.read_heartbeats()[0]["pid"], signal.SIGKILL)
    with study.held(2) as cancelled:
        slurm.run(["scancel", study.job(cancelled)])
    if ALL_FAULTS:
        with study.held(7) as lost:
            node = slurm.job(study.job(lost))["NodeList"]
            slurm.run(["scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test"])
        slurm.run(["scontrol", "update", f"NodeName={node}", "State=RESUME"], check=False)  # it may be back already
        with study.held(8) as pushed_out:
            node = slurm.job(study.job(pushed_out))["NodeList"]
            slurm.sbatch("-p", "hi", "--exclusive", "-w", node, "-o", "/dev/null", "--wrap", "sleep 2")
            wait_until(lambda: is_told_to_end(pushed_out), "TERM to the rank of trial 8", pause_s=0.1)
    study.wait_until_ended([number for number in range(NUM_TRIALS) if number != 2])
    assert "resume" in study.types(f"hpctrain search status {study.directory.path}")
    assert "1 trials" in study.types(f"hpctrain search resume {study.directory.path}")
    study.wait_until_ended([2])
    return study


def test_no_trial_is_lost_and_none_runs_twice(study: Study) -> None:
    trials = read_trials(study.directory)
    assert [trial.number for trial in trials] == list(range(NUM_TRIALS))
    assert all(trial.state in ("finished", "pruned") for trial in trials), study.types(
        "hpctrain search status searched"
    )
    for trial in trials:
        steps = [record["step"] for record in study.directory.trial(trial.number).read_metrics("train")]
        assert steps == list(range(1, trial.step + 1))
        assert trial.step == NUM_STEPS or trial.state == "pruned"
    assert len(study.directory.trial(0).read_attempts()) > 1
    assert len(study.directory.trial(1).read_attempts()) > 1
    assert len(study.directory.trial(2).read_job()["submissions"]) == 2
    if ALL_FAULTS:
        assert all(len(study.directory.trial(number).read_attempts()) > 1 for number in (7, 8))


def test_a_trial_is_asked_for_once_however_often_its_task_begins(study: Study) -> None:
    for number in (0, 1, 2):
        trial = study.directory.trial(number)
        asked = read_json(trial.asked)
        written = trial.profile.read_text()
        assert all(re.search(rf"{re.escape(key.split('.')[1])}: ", written) for key in asked["values"])
        assert asked["asked_at"] <= trial.read_attempts()[0]["started_at"]


def test_the_array_has_a_throttle_and_the_resumed_one_its_task_alone(study: Study) -> None:
    assert "#SBATCH --array=2%1\n" in (study.directory.path / "job.sh").read_text()
    first = study.types("hpctrain search study.yaml --no-memory --dry-run")
    assert f"#SBATCH --array=0-{NUM_TRIALS - 1}%{AT_ONCE}\n" in first
    assert "train.learning_rate=" in first


@pytest.mark.skipif(not ALL_FAULTS, reason="tests/flow shows it on this machine; ALL_FAULTS=1 shows it here too")
def test_the_best_trial_run_alone_has_the_same_bits(study: Study, tmp_path: Path) -> None:
    best = json.loads(study.types("hpctrain search best searched --json"))[0]
    study.types("hpctrain search best searched --out best.yaml")
    study.types(f"hpctrain local best.yaml --set name=alone launch.runs_dir={tmp_path} launch.cluster=local")
    (alone,) = tmp_path.glob("alone/*/model/model.safetensors")
    trial = study.directory.trial(best["number"])
    assert file_digest(alone) == file_digest(trial.model / "model.safetensors")


@pytest.mark.skipif(not ALL_FAULTS, reason="tests/flow shows it on this machine; ALL_FAULTS=1 shows it here too")
def test_the_folds_of_a_cross_validation_are_tasks_of_one_array(study: Study) -> None:
    said = study.types("hpctrain crossval base.yaml --folds 3 --set train.max_steps=30 --no-memory --wait")
    directory = find_study("tiny-crossval", study.folder / "runs")
    assert "#SBATCH --array=0,4,8%3\n" in (directory.path / "job.sh").read_text()
    assert (directory.path / "out_of_fold.h5").exists(), said
