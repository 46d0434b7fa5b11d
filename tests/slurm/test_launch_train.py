"""From the command line through a real Slurm to a trained model, with the real trainer on CPU ranks."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from slurm_cluster import REPOSITORY, SlurmCluster, wait_until

from hpctrain.launch.history import read_history
from hpctrain.rundir import RunDir, read_json

pytestmark = pytest.mark.slurm

PROFILE = """\
name: tiny
launch: {nodes: 2, ranks_per_node: 2, gpus_per_node: 0, cpus_per_rank: 1, time_limit: "00:10:00"}
data: {files: [tiny.h5], reader_threads: 0, columns: {mask: null}}
model:
  {latent_size: 2, encoder_channels: [8, 8], encoder_kernels: [3, 5], encoder_hidden: [8], decoder_hidden: [8],
   rest_pixels: 300}
train:
  {batch_size: 4, epochs: 10000, max_steps: 90, accumulation: 4, log_every_steps: 1, warmup_steps: 2, device: cpu,
   evaluate_every_steps: 1000}
checkpoint: {every_steps: 1000}
track: {tensorboard: false}
monitor: {heartbeat_s: 1}
"""


def write_spectra(path: Path, num_spectra: int = 200, num_pixels: int = 256) -> None:
    rng = np.random.default_rng(1)
    wavelength_aa = np.linspace(3600, 9000, num_pixels)
    signal = 5 + np.sin(wavelength_aa / 300) * rng.normal(size=(num_spectra, 1))
    with h5py.File(path, "w") as file:
        file["wavelength"] = wavelength_aa
        file["flux"] = (signal + 0.3 * rng.normal(size=signal.shape)).astype("f4")
        file["ivar"] = np.full(signal.shape, 1 / 0.09, "f4")
        file["target_id"] = np.arange(num_spectra)
        file["redshift"] = rng.uniform(0.05, 0.3, num_spectra).astype("f4")


class User:
    """Sits in a folder with a profile and some spectra and types commands."""

    def __init__(self, cluster: SlurmCluster) -> None:
        self.cluster = cluster
        self.folder = cluster.fresh_dir()
        (self.folder / "tiny.yaml").write_text(PROFILE)
        write_spectra(self.folder / "tiny.h5")

    def types(self, command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{REPOSITORY / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return self.cluster.run(command, cwd=self.folder, env={"PATH": path, **environment}, check=check)

    def status(self, of: str = "") -> dict:
        return json.loads(self.types(f"hpctrain status {of} --json").stdout)

    def wait_for_state(self, state: str, of: str = "") -> dict:
        """Ask as a user does, each second: an answer costs a third of a second of CPU time."""
        found: list[dict] = []
        wait_until(lambda: found.append(self.status(of)) or found[-1]["state"] == state, f"{of} {state}", pause_s=1.0)
        return found[-1]

    def wait_for_step(self, step: int = 1) -> None:
        (run,) = self.runs()
        wait_until(
            lambda: max((record["step"] for record in run.read_metrics("train")), default=0) >= step,
            f"step {step}",
            pause_s=0.1,
        )

    def runs(self) -> list[RunDir]:
        return [RunDir(path) for path in sorted(self.folder.glob("runs/tiny/*"))]


@pytest.fixture
def user(slurm) -> User:
    return User(slurm)


def test_submit_watch_warn_requeue_finish(user):
    """The whole way of a run that is warned once: two nodes, two ranks each."""
    said = user.types("hpc-submit tiny.yaml").stdout
    (run,) = user.runs()
    job = re.search(r"job id +(\d+)", said)[1]
    assert f"run directory  {run.path.relative_to(user.folder)}" in said
    assert {path.name for path in run.path.iterdir()} >= {"profile.yaml", "job.json", "job.sh", "provenance.json"}
    assert str(user.folder / "tiny.h5") in run.profile.read_text()
    assert read_json(run.provenance)["data"][0]["bytes"] == (user.folder / "tiny.h5").stat().st_size

    user.wait_for_step(5)
    status = user.status(job)
    assert (status["state"], status["source"], status["total_steps"]) == ("running", "squeue", 90)
    user.cluster.run(["scancel", "--signal=USR2", job])
    wait_until(lambda: len(read_history(run)) == 1, "the first attempt to end", pause_s=0.1)
    assert user.status()["state"] in ("requeued", "running")
    status = user.wait_for_state("finished")
    assert [ended.followed for ended in read_history(run)] == ["requeued", "finished"]
    assert (status["num_attempts"], status["step"], status["checkpoint"]) == (2, 90, "step-00000090")
    starts = [record["start_step"] for record in run.read_metrics("event") if record["event"] == "started"]
    assert starts[0] == 0
    assert starts[1] >= 5
    steps = [record["step"] for record in run.read_metrics("train")]
    assert steps == list(range(1, 91))
    assert (run.model / "model.safetensors").exists()

    assert "finished" in user.types("hpctrain logs --attempt 2").stdout
    assert "started at step 0" in user.types(f"hpctrain logs {job} --attempt 1").stdout
    assert "requeued" in user.types("hpctrain logs tiny --batch").stdout
    listed = user.types("hpctrain list").stdout.splitlines()
    assert len(listed) == 2
    assert re.match(rf"tiny +{run.run_id} +finished +{job} ", listed[1])


def test_cancel_saves_and_resume_goes_on(user):
    user.types("hpc-submit tiny.yaml --set train.max_steps=100000 launch.nodes=1 launch.ranks_per_node=1")
    (run,) = user.runs()
    user.wait_for_step(5)
    refused = user.types(f"hpc-submit --resume {run.run_id}", check=False)
    assert refused.returncode == 2
    assert "cancel" in refused.stderr
    assert "is cancelled" in user.types("hpctrain cancel").stdout
    status = user.wait_for_state("cancelled")
    saved = int(status["checkpoint"].removeprefix("step-"))
    assert saved >= 5
    assert "nothing to cancel" in user.types("hpctrain cancel").stdout
    waited = user.types(f"hpc-submit --resume {run.run_id} --set train.max_steps={saved + 10} --wait")
    assert "finished" in waited.stderr
    assert user.runs()[0].path == run.path
    assert len(user.runs()) == 1
    assert len(read_json(run.job)["submissions"]) == 2
    assert user.status()["step"] == saved + 10


def test_sbatch_by_hand_finds_its_run_again_after_a_requeue(user):
    options = "--nodes=2 --ntasks-per-node=1 --gpus-per-node=0 --cpus-per-task=1 --time=10"
    script = REPOSITORY / "slurm/train_hpc.sh"
    python = REPOSITORY / ".venv/bin/python"
    said = user.types(
        f"sbatch {options} {script} tiny.yaml",
        HPCTRAIN_PYTHON=str(python),
        PYTHONPATH=str(REPOSITORY),
    ).stdout
    job = said.split()[-1]
    wait_until(user.runs, "the run directory")
    user.wait_for_step(5)
    user.cluster.run(["scancel", "--signal=USR2", job])
    user.wait_for_state("finished")
    (run,) = user.runs()
    assert run.run_id.endswith(f"-job{job}")
    assert [ended.followed for ended in read_history(run)] == ["requeued", "finished"]
    log = (user.folder / f"hpctrain-{job}.log").read_text()
    assert log.count(f"the run directory is {run.path}") == 2


def test_sbatch_by_hand_says_what_is_wrong_with_the_profile(user):
    script = REPOSITORY / "slurm/train_hpc.sh"
    python = REPOSITORY / ".venv/bin/python"
    options = "--ntasks-per-node=1 --gpus-per-node=0 --cpus-per-task=1"
    said = user.types(
        f"sbatch {options} {script} tiny.yaml --set train.batchsize=3",
        HPCTRAIN_PYTHON=str(python),
        PYTHONPATH=str(REPOSITORY),
    ).stdout
    job = said.split()[-1]
    assert user.cluster.wait_for(job) == "FAILED"
    assert user.cluster.job(job)["ExitCode"] == "2:0"
    assert "did you mean 'batch_size'" in (user.folder / f"hpctrain-{job}.log").read_text()
    assert user.runs() == []
