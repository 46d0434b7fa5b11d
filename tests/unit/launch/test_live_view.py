"""The live view of a run: one frame for a pipe, a redrawn one for a terminal, from the run directory alone."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from machines import Machine

from hpctrain.distributed.heartbeat import Heartbeat
from hpctrain.distributed.world import World
from hpctrain.launch.live import MOST_RANKS
from hpctrain.metrics.events import CheckpointSaved, Finished, Started
from hpctrain.metrics.record import MetricsWriter
from hpctrain.monitor.ledger import Ledger
from hpctrain.monitor.pace import Governor
from hpctrain.monitor.sampler import Sampler
from hpctrain.monitor.sensors import Sensors
from hpctrain.rundir import RunDir, write_json

ROOT = Path(__file__).resolve().parents[3]


def make_run(folder: Path, num_ranks: int = 2) -> RunDir:
    """A run on another node: heartbeats, metrics and what its sensors told; rank 1 is hot."""
    run = RunDir.create(folder / "runs", "desi", "20261121-101500-abcd")
    run.profile.write_text("name: desi\n")
    # A queue that nobody may ask: there is no such cluster here.
    write_json(run.job, {"name": "desi", "cluster": "slurm", "submissions": [{"job_id": "4711", "job_name": "desi"}]})
    write_json(run.attempts / "0001.json", {"attempt": 1, "started_at": time.time() - 600, "job_id": "4711"})
    metrics = MetricsWriter(run, 1)
    metrics.event(Started.from_record({"total_steps": 1000, "world_size": num_ranks}), 0)
    metrics.train(100, loss=2.5, samples_per_s=420.0, samples_seen=6400)
    metrics.evaluation(100, loss=2.75)
    metrics.event(CheckpointSaved.from_record({"bytes": 1000}), 100)
    checkpoint = run.checkpoints / "step-00000100"
    checkpoint.mkdir()
    (checkpoint / "MANIFEST.json").write_text("{}")
    os.utime(checkpoint / "MANIFEST.json", (time.time() - 95, time.time() - 95))
    for rank in range(num_ranks):
        beat = Heartbeat(run, World(rank, num_ranks), 1, 10.0)
        beat.step, beat.total_steps, beat.state = 120, 1000, "cooling" if rank == 1 else "training"
        beat.beat()
        machine = Machine(folder / f"machine-{rank}", "agx-orin-64gb")
        machine.heat(93.5 if rank == 1 else 61.0)
        sampler = Sampler(
            Sensors(machine.root), Governor(10.0), Ledger(run, rank, 1, f"node{rank}"), 3600.0, lambda: 120,
            clock=iter((0.0, 3600.0)).__next__,
        )  # fmt: skip
        sampler.sample()
        sampler.sample()
    return run


def monitor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpctrain", "monitor", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_one_frame_shows_progress_ranks_energy_events_and_the_checkpoint(tmp_path):
    run = make_run(tmp_path)
    done = monitor(str(run.path), PATH="/nowhere")  # no command of Slurm is asked
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("desi/20261121-101500-abcd  running  (2 ranks alive")
    assert "step 120/1,000 (12 %)" in lines[1]
    assert lines[2].split("   ")[:3] == ["loss 2.5", "validation 2.75", "420 spectra/s"]
    assert "step-00000100, 1m3" in lines[2]
    assert lines[3].startswith("energy 0.0452 kWh   25.4 J per spectrum")
    ranks = {line.split()[0]: line.split() for line in lines if line.strip()[:2] in ("0 ", "1 ")}
    assert ranks["0"][1:4] == ["node0", "training", "ok"]
    assert ranks["1"][1:4] == ["node1", "cooling", "hot"]
    assert "94" in ranks["1"]
    assert "22.6 W" in done.stdout
    assert any("rank 1: hot: waits at step 120 (tj 93.5 °C" in line for line in lines)
    assert "\x1b" not in done.stdout


def test_the_newest_run_is_shown_where_none_is_named(tmp_path):
    run = make_run(tmp_path)
    done = monitor("--once", "--runs-dir", str(run.path.parents[1]))
    assert "desi/20261121-101500-abcd" in done.stdout


def test_a_run_that_has_told_nothing_yet_can_be_watched_too(tmp_path):
    run = RunDir.create(tmp_path / "runs", "desi")
    run.profile.write_text("name: desi\n")
    write_json(run.job, {"name": "desi", "cluster": "local", "submissions": [{"job_id": "local-1"}]})
    done = monitor(str(run.path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "energy not measured" in done.stdout
    assert "no checkpoint yet" in done.stdout


def test_a_rank_that_has_fallen_silent_is_said_to_be(tmp_path):
    run = make_run(tmp_path)
    record = json.loads(run.monitor_file(0).read_text())
    record |= {"time": time.time() - 300, "interval_s": 5.0}
    run.monitor_file(0).write_text(json.dumps(record))
    assert "silent 5m" in monitor(str(run.path)).stdout


def test_of_very_many_ranks_the_hot_ones_are_shown(tmp_path):
    run = make_run(tmp_path, num_ranks=2)
    hot, cool = (json.loads(run.monitor_file(rank).read_text()) for rank in (1, 0))
    for rank in range(40):
        run.monitor_file(rank).write_text(json.dumps({**(hot if rank in (3, 37) else cool), "rank": rank}))
    output = monitor(str(run.path)).stdout
    assert f"{40 - MOST_RANKS} cooler ranks are not shown" in output
    assert output.count(" hot ") == 2


@pytest.mark.parametrize("ending", ["ctrl-c", "finished"])
def test_on_a_terminal_it_is_redrawn_until_ctrl_c_or_the_end_of_the_run(tmp_path, ending):
    run = make_run(tmp_path)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hpctrain", "monitor", str(run.path), "--interval", "0.2"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "110", "LINES": "40"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = read_terminal(ours, lambda text: text.count("spectra/s") >= 3)
    assert "step 120/1,000" in seen
    if ending == "ctrl-c":
        process.send_signal(signal.SIGINT)
    else:
        MetricsWriter(run, 1).event(Finished.from_record({}), 1000)
        for rank in (0, 1):
            write_json(run.heartbeat(rank), {"rank": rank, "attempt": 1, "state": "finished", "time": time.time()})
    rest = read_terminal(ours, lambda text: False)
    assert process.wait(600) == 0
    assert "Traceback" not in seen + rest
    os.close(ours)


def read_terminal(descriptor: int, enough) -> str:
    """Read what a process draws until it is enough, or until it has left."""
    text, deadline = "", time.monotonic() + 600
    while not enough(text) and time.monotonic() < deadline:
        if select.select([descriptor], [], [], 0.2)[0]:
            try:
                text += os.read(descriptor, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                break
    return text


def test_every_sensor_of_a_machine_can_be_listed(tmp_path):
    machine = Machine(tmp_path, "agx-orin-64gb")
    done = monitor("--sensors", HPCTRAIN_SYSFS_ROOT=str(machine.root))
    assert done.returncode == 0
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines()[1:]}
    assert done.stdout.startswith("NVIDIA Jetson AGX Orin Developer Kit")
    assert lines["board_power_w"][1] == "22.606"
    assert lines["power_mode"][1] == "MAXN"
    assert " ".join(lines["tj"]) == "tj limit warm 85 hot 92 critical 99 (the board slows itself down at 95 °C)"
    assert "temperature_cv0_c" not in lines
