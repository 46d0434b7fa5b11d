"""A real run for the tests of the report: three attempts of the trainer, and the same run at an earlier moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attempts import Attempts, log_of
from forks import ForkServer
from kinds.spectra import tiny_file
from machines import Machine
from small_network import SMALL_NETWORK

from hpctrain.launch.history import EndedAttempt, append_history, newest_checkpoint
from hpctrain.launch.submit import prepare, write_runs
from hpctrain.metrics.record import MetricsWriter
from hpctrain.monitor.sysfs import ROOT_VARIABLE
from hpctrain.profile.check import check_profile
from hpctrain.rundir import RunDir, write_json

STOPPED_AT, KILLED_IN = 8, 14
"""Step at which the first attempt saves and exits, and step in which the second one is killed."""
DESCRIPTION = '<script>alert("x")</script>'


def make_real_run(folder: Path, fork_server: ForkServer) -> RunDir:
    """Submit a run to Slurm on paper, and run its attempts here, on a recorded board.

    A signal makes the first attempt save and exit. We kill the second one and damage its newest checkpoint. The third
    one finishes.
    """
    profile = {
        "name": "desi_vae",
        "description": DESCRIPTION,
        "launch": {"gpus_per_node": 0, "cpus_per_rank": 1, "runs_dir": str(folder / "runs"), "signal_lead_s": 5},
        "data": {"files": [str(tiny_file(folder / "spectra.h5", 300))], "split": {"validation": 0.2}},
        "model": SMALL_NETWORK,
        "train": {
            "batch_size": 16,
            "epochs": 2,
            "warmup_steps": 4,
            "log_every_steps": 1,
            "evaluate_every_steps": 5,
            "device": "cpu",
        },
        "checkpoint": {"every_steps": 6},
        "track": {"tensorboard": False, "figure_every_steps": 10, "num_figures": 2},
        "monitor": {"sample_interval_s": 0.05},
    }
    found = check_profile(profile, [], memory=False)
    submission = prepare([found.raise_problems()], "slurm", found.site)
    write_runs(submission, folder)
    run = submission.runs[0]
    _forget_the_checkout(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT_VARIABLE, str(Machine(folder / "board", "agx-orin-64gb").root))
        attempts = Attempts(folder, folder / "spectra.h5", fork_server)
    try:
        _attempt(attempts, run, 75, "requeued", cut={"signal": int(signal.SIGUSR2), "at_update": STOPPED_AT})
        kill = {"signal": int(signal.SIGKILL), "at_update": KILLED_IN - STOPPED_AT}
        _attempt(attempts, run, -9, "requeued", cut=kill)
        newest = max(run.checkpoints.glob("step-*"))
        os.truncate(newest / "model.safetensors", 100)
        _attempt(attempts, run, 0, "finished")
    finally:
        attempts.close()
    return run


def _forget_the_checkout(run: RunDir) -> None:
    """Replace what has changed in the checkout: the page shows it, and tests look for words on the page."""
    provenance = json.loads(run.provenance.read_text())
    if provenance["code"].get("git"):
        provenance["code"]["git"] |= {"dirty": True, "diff": "--- a/x\n+++ b/x <b>\n", "untracked": []}
    write_json(run.provenance, provenance)


def _attempt(attempts: Attempts, run: RunDir, code: int, followed: str, **order: Any) -> None:
    assert attempts.attempt(run, **order) == [code], log_of(run)
    lease = max(run.read_attempts(), key=lambda lease: lease["attempt"])
    last_s = max(record["time"] for record in run.read_metrics())
    exit_code = code if code >= 0 else 128 - code
    job = (lease["job_id"], lease["restart_count"])
    append_history(run, EndedAttempt(last_s + 1, *job, exit_code, "none", newest_checkpoint(run), followed))


def copy_run(run: RunDir, folder: Path) -> RunDir:
    """Return a copy of a run, below a folder."""
    copy = RunDir(folder / run.name / run.run_id)
    shutil.copytree(run.path, copy.path, ignore=shutil.ignore_patterns("*.safetensors"))
    return copy


def submitted(run: RunDir, folder: Path) -> RunDir:
    """Return the run as it was when no attempt had begun."""
    copy = copy_run(run, folder)
    for path in (copy.attempts, copy.results, copy.heartbeat(0).parent, copy.checkpoints, copy.model, copy.logs):
        shutil.rmtree(path, ignore_errors=True)
    for path in (copy.metrics, *copy.monitor_files()):
        path.unlink()
    copy.report.unlink(missing_ok=True)
    copy.make_folders()
    return copy


def begun(
    run: RunDir, folder: Path, step: int, change: Callable[[dict[str, Any]], dict[str, Any]] = lambda record: record
) -> RunDir:
    """Return the run as it was when its first attempt had done `step` steps, with its records changed.

    Parameters
    ----------
    run : RunDir
    folder : Path
        Where to copy it.
    step : int
        0 for an attempt that has written nothing but its lease.
    change : callable
        Takes a record, and returns what it becomes.
    """
    copy = submitted(run, folder)
    (lease,) = [path for path in run.attempts.glob("*.json") if json.loads(path.read_text())["attempt"] == 1]
    shutil.copy(lease, copy.attempts)
    records = [record for record in run.read_metrics() if step and record["attempt"] == 1 and record["step"] <= step]
    ends = ("stop_requested", "stopped") if step < STOPPED_AT else ()
    write_records(copy, [change(record) for record in records if record.get("event") not in ends])
    return copy


def write_records(run: RunDir, records: list[dict[str, Any]]) -> None:
    run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))


def beat(run: RunDir, real: RunDir) -> float:
    """Write the heartbeat that the run had at its last record; return the time of this record."""
    newest = list(run.read_metrics())[-1]
    write_json(
        run.heartbeat(0),
        {
            **json.loads(real.heartbeat(0).read_text()),
            "attempt": 1,
            "step": newest["step"],
            "state": "training",
            "interval_s": 10.0,
            "time": newest["time"],
        },
    )
    return newest["time"]


def tell(run: RunDir, event: Any, step: int, attempt: int = 1) -> None:
    """Let the trainer's writer record an event."""
    writer = MetricsWriter(run, attempt)
    writer.event(event, step)
    writer.close()
