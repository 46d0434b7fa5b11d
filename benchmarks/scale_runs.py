"""Make what a group has after years: 10,000 run directories, a run with millions of records, one with 500 attempts.

Everything is made from one small run that was trained for real, so the files are as the trainer writes them. Names,
ids, times and numbers are of their own; files that never differ (weights, results) are links to one copy.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from hpctrain.rundir import RunDir, write_json

NAMES = 50
"""Number of names that the runs have; a name is a folder."""
BEGAN = 1.79e9
"""When the first run was submitted [s since 1970]."""
HOUR = 3600.0
_LINKED = ("checkpoints/step-*/*", "model/*", "results/*", "provenance.json", "report.html")
_FAILURE = "loss is not finite (step 14)"
_TRAIN = (
    '{{"kind":"train","step":{step},"time":{time:.3f},"attempt":1,"loss":{loss:.12g},"chi2":{chi2:.12g},"kl":18.25,'
    '"grad_norm":{norm:.12g},"lr":0.000512345678,"data_wait_share":0.018,"samples_seen":{seen},'
    '"samples_per_s":8192.125,"epoch":{epoch:.8g},"memory_gib":11.4}}\n'
)
_LOG = "2026-11-27 03:05:{second:02d} rank 0: step {step}: loss 0.6605 chi2 1.644 lr 2.5e-05, 4,833 spectra/s\n"


def make_many(model: RunDir, runs: Path, count: int) -> None:
    """Make `count` folders of runs: in each hundred 70 have finished, others failed, died, wait, or are damaged.

    Parameters
    ----------
    model : RunDir
        A run that has finished; its files are the pattern.
    runs : Path
        Folder of runs; on the same file system as `model`.
    count : int
    """
    for number in range(count):
        place = number % 100
        for last, make in _KINDS:
            if place <= last:
                make(model, runs, number)
                break


def _run(model: RunDir, runs: Path, number: int, job_id: str | None = None) -> RunDir:
    """Make the folder of a run that was submitted, and no more."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(BEGAN + 60 * number))
    run = RunDir(runs / f"survey-{number % NAMES:02d}" / f"{stamp}-{number:04x}")
    run.make_folders()
    run.profile.write_text(model.profile.read_text().replace("name: quickstart", f"name: {run.name}", 1))
    job = model.read_job()
    submitted = BEGAN + 60 * number
    job |= {"run_id": run.run_id, "name": run.name, "submitted_at": submitted}
    job["submissions"] = [{"job_id": job_id or f"local-{number}", "array_index": None, "submitted_at": submitted}]
    write_json(run.job, job, durable=False)
    return run


def _begun(model: RunDir, runs: Path, number: int, state: str = "finished", job_id: str | None = None) -> RunDir:
    """Make a run with one attempt, with everything that it has written but its end."""
    run = _run(model, runs, number, job_id)
    began = BEGAN + 60 * number + 30
    lease = json.loads((model.attempts / "0001.json").read_text())
    (run.attempts / "0001.json").write_text(json.dumps(lease | {"started_at": began, "job_id": f"local-{number}"}))
    beat = model.read_heartbeats()[0] | {"time": began + HOUR, "state": state, "process": None}
    run.heartbeat(0).write_text(json.dumps(beat))
    run.monitor.mkdir()
    run.monitor_file(0).write_text(model.monitor_file(0).read_text())
    for path in (path for pattern in _LINKED for path in model.path.glob(pattern)):
        target = run.path / path.relative_to(model.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    log = next(model.logs.glob("job-*-rank-0000.log"))
    (run.logs / f"job-local-{number}.0-rank-0000.log").write_text(log.read_text())
    _write_metrics(model, run, began, random.Random(number), with_end=state == "finished")
    return run


def _write_metrics(model: RunDir, run: RunDir, began: float, chance: random.Random, with_end: bool) -> None:
    records = [json.loads(line) for line in model.metrics.read_text().splitlines()]
    first, factor, lines = records[0]["time"], chance.uniform(0.8, 1.2), []
    for record in records:
        record["time"] = round(began + record["time"] - first, 3)
        record |= {name: factor * record[name] for name in ("loss", "chi2", "kl") if name in record}
        if with_end or record.get("event") != "finished":
            lines.append(json.dumps(record, separators=(",", ":")))
    run.metrics.write_text("\n".join(lines) + "\n")


def _ended(run: RunDir, number: int, code: int, followed: str, restart: int = 0, mode: str = "a") -> None:
    row = (int(BEGAN + 60 * number + 90), f"local-{number}", restart, code, "none", "step-00000020", followed)
    with open(run.attempts / "ended.tsv", mode) as stream:
        stream.write("\t".join(map(str, row)) + "\n")


def _make_finished(model: RunDir, runs: Path, number: int) -> None:
    _ended(_begun(model, runs, number), number, 0, "finished")


def _make_failed(model: RunDir, runs: Path, number: int) -> None:
    run = _begun(model, runs, number, "failed")
    event = {"kind": "event", "step": 14, "time": BEGAN + 60 * number + 60, "attempt": 1, "event": "failed"}
    with open(run.metrics, "a") as stream:
        stream.write(json.dumps(event | {"error": _FAILURE, "exit_code": 6}, separators=(",", ":")) + "\n")
    _ended(run, number, 6, "failed")


def _make_lost(model: RunDir, runs: Path, number: int) -> None:
    _begun(model, runs, number, "training")


def _make_waiting(model: RunDir, runs: Path, number: int) -> None:
    _run(model, runs, number)


def _make_stopped(model: RunDir, runs: Path, number: int) -> None:
    run = _begun(model, runs, number, "stopped")
    for restart in range(4):
        _ended(run, number, 75, "requeued", restart)
        lease = json.loads((run.attempts / "0001.json").read_text())
        (run.attempts / f"{restart + 2:04d}.json").write_text(json.dumps(lease | {"restart_count": restart + 1}))
    _ended(run, number, 75, "too-many-attempts", 4)


def _make_task(model: RunDir, runs: Path, number: int) -> None:
    _ended(_begun(model, runs, number, job_id=f"{9000 + number // 100}_{number % 100}"), number, 0, "finished")


def _make_damaged(model: RunDir, runs: Path, number: int) -> None:
    run = _begun(model, runs, number, "training")
    for path in (run.job, run.heartbeat(0), run.metrics):
        path.write_bytes(path.read_bytes()[:-200] + b"\0\xff{" * 20)


def _make_without_profile(model: RunDir, runs: Path, number: int) -> None:
    _begun(model, runs, number).profile.unlink()


def _make_empty(model: RunDir, runs: Path, number: int) -> None:
    (runs / f"survey-{number % NAMES:02d}" / f"notes-{number:05d}").mkdir(parents=True)


_KINDS: tuple[tuple[int, Callable[[RunDir, Path, int], None]], ...] = (
    (69, _make_finished),
    (79, _make_failed),
    (84, _make_lost),
    (89, _make_waiting),
    (93, _make_stopped),
    (95, _make_task),
    (97, _make_damaged),
    (98, _make_without_profile),
    (99, _make_empty),
)
"""Of each hundred: the last number of each kind, and what makes one."""


def make_long(model: RunDir, runs: Path, num_records: int, with_end: bool = True) -> RunDir:
    """Make a run whose ``metrics.jsonl`` has `num_records` training records, an evaluation every 10,000 of them."""
    run = _begun(model, runs, num_records + with_end, "finished" if with_end else "training")
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    head = [one for one in records if one["kind"] == "event" and one["event"] in ("started", "data", "sensors")]
    began = head[0]["time"]
    with open(run.metrics, "w", encoding="ascii") as stream:
        for record in head:
            record |= {"total_steps": num_records} if record["event"] == "started" else {}
            stream.write(json.dumps(record, separators=(",", ":")) + "\n")
        for step in range(1, num_records + 1):
            at, loss = began + step / 8, 1 + 1 / step + step % 11 / 100
            values = {"step": step, "time": at, "loss": loss, "chi2": 2 * loss, "norm": 0.3 + step % 7 / 10}
            stream.write(_TRAIN.format(**values, seen=step * 1024, epoch=step / 180))
            if step % 10_000 == 0:
                values = {"kind": "eval", "step": step, "time": at, "attempt": 1, "loss": loss, "chi2": 2 * loss}
                stream.write(json.dumps(values | {"num_spectra": 28}, separators=(",", ":")) + "\n")
        if with_end:
            end = records[-1] | {"step": num_records, "time": began + num_records / 8 + 1}
            stream.write(json.dumps(end, separators=(",", ":")) + "\n")
    if with_end:
        _ended(run, num_records, 0, "finished")
    return run


def make_log(run: RunDir, num_bytes: int) -> Path:
    """Let rank 0 of a run have written a log of about this size, and return its path."""
    path = next(run.logs.glob("job-*-rank-0000.log"))
    with open(path, "w") as stream:
        step = 0
        while stream.tell() < num_bytes:
            stream.write("".join(_LOG.format(second=step % 60, step=step + each) for each in range(10_000)))
            step += 10_000
    return path


def make_attempts(model: RunDir, runs: Path, count: int) -> RunDir:
    """Make a run of `count` attempts, all but the last of which saved and were requeued."""
    run = _begun(model, runs, count)
    lease = json.loads((run.attempts / "0001.json").read_text())
    log = next(run.logs.glob("job-*-rank-0000.log"))
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    with open(run.metrics, "w") as stream:
        for attempt in range(1, count + 1):
            began = lease["started_at"] + HOUR * attempt
            facts = {"attempt": attempt, "restart_count": attempt - 1, "started_at": began}
            (run.attempts / f"{attempt:04d}.json").write_text(json.dumps(lease | facts))
            log.with_name(f"job-local-{count}.{attempt - 1}-rank-0000.log").write_text("the log of an attempt\n")
            is_last = attempt == count
            for record in records:
                if is_last or record.get("event") != "finished":
                    later = {"attempt": attempt, "time": round(record["time"] + HOUR * attempt, 3)}
                    later["step"] = record["step"] + 20 * (attempt - 1)
                    stream.write(json.dumps(record | later, separators=(",", ":")) + "\n")
            followed = ("requeued", "finished")[is_last]
            _ended(run, count, 0 if is_last else 75, followed, attempt - 1, "w" if attempt == 1 else "a")
    return run
