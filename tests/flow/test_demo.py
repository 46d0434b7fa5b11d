"""`make demo` on a profile of seconds: the commands it teaches work one after the other, interruption included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpctrain.launch.runs import all_runs
from hpctrain.metrics.events import Finished, Resumed, Stopped
from hpctrain.metrics.read import read_history

PROFILE = """
name: tiny
launch: {gpus_per_node: 0, ranks_per_node: 2, cpus_per_rank: 1, time_limit: 00:10:00}
data: {files: [absent.h5], simulate: {num_spectra: 300, num_pixels: 200, snr_median: 10.0}, reader_threads: 0}
model:
  latent_size: 4
  encoder_channels: [8, 16]
  encoder_kernels: [5, 9]
  encoder_hidden: [16]
  decoder_hidden: [16, 32]
train: {batch_size: 16, epochs: 24, warmup_steps: 5, log_every_steps: 5, evaluate_every_steps: 100}
checkpoint: {every_steps: 1000}
track: {histogram_every_steps: null, figure_every_steps: null}
monitor: {heartbeat_s: 0.5}
"""


def demo(folder: Path, python: str, env: dict[str, str], *arguments: str) -> str:
    (folder / "tiny.yaml").write_text(PROFILE)
    command = [python, "-m", "hpctrain", "demo", "--profile", "tiny.yaml", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_it_was_interrupted_and_finished(folder: Path, out: str) -> None:
    run = all_runs(folder / "demo/runs")[0]
    history = read_history(run)
    assert len(history.all_of(Stopped)) == 1
    assert history.newest(Resumed).steps_lost == 0
    assert history.newest(Finished)
    assert run.report.exists()
    assert (run.model / "model.safetensors").exists()
    assert (folder / "demo/latents.h5").exists()
    assert "1 time, 0 steps lost, 2 attempts" in out


def test_the_demo_goes_the_whole_way_on_this_machine(tmp_path, fork_server):
    out = demo(tmp_path, fork_server.python, dict(os.environ), "--cluster", "local")
    assert "$ kill -USR2" in out
    assert_it_was_interrupted_and_finished(tmp_path, out)


@pytest.mark.slurm
def test_the_demo_finds_slurm_and_goes_the_whole_way_there(slurm):
    folder = slurm.fresh_dir()
    out = demo(folder, sys.executable, slurm.env)
    assert "$ scancel --signal=USR2" in out
    assert_it_was_interrupted_and_finished(folder, out)


def test_a_demo_whose_profile_is_wrong_says_so_and_leaves_with_its_exit_code(tmp_path):
    (tmp_path / "tiny.yaml").write_text(PROFILE.replace("epochs: 24", "epochs: 0"))
    command = [sys.executable, "-m", "hpctrain", "demo", "--profile", "tiny.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "train.epochs" in done.stderr
    assert "Traceback" not in done.stderr
