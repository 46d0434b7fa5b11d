"""The attempts of a run: when each began, when and why it ended, and the steps that it lost."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctrain.files import read_lines
from hpctrain.metrics.events import CheckpointSaved, Diverged, Event, Failed, Finished, Resumed, Started, Stopped
from hpctrain.metrics.events.event import joined
from hpctrain.metrics.read import History
from hpctrain.records import Record
from hpctrain.states import SILENT_BEATS

NO_FINAL_RECORD = "ended without a final record (killed, or its node was lost)"


@dataclass(frozen=True)
class Ending:
    """One line of ``attempts/ended.tsv``, in which the batch script records the end of an attempt."""

    time: float
    job_id: str
    restart: int
    exit_code: int
    followed: str


_WHOLE_NUMBER = re.compile(r"\d{1,11}")
_ENDINGS = (Finished, Stopped, Failed, Diverged)


@dataclass
class Attempt:
    """One start of the trainer.

    Parameters
    ----------
    number : int
        Number of the attempt, from 1; the highest owns the run.
    started_at, ended_at : float
        Seconds since 1970; a killed attempt ends with its last record or heartbeat.
    outcome : str
        ``finished``, ``stopped``, ``failed``, ``diverged``, ``killed`` (no final record) or ``running``.
    cause : str
        Reason for the end, in words.
    followed : str
        Next action of the batch script, as in ``attempts/ended.tsv``; empty if it has written nothing.
    progress : list of (float, int)
        Time [s since 1970] and step of the records, including superseded ones.
    """

    number: int
    started_at: float
    ended_at: float
    outcome: str = "killed"
    cause: str = NO_FINAL_RECORD
    exit_code: int | None = None
    followed: str = ""
    restart: int = 0
    world_size: int = 1
    device: str = ""
    hosts: str = ""
    job_id: str = ""
    first_step: int = 0
    last_step: int = 0
    steps_lost: int = 0
    resumed_from: str = ""
    progress: list[tuple[float, int]] = field(default_factory=list)
    checkpoints: list[CheckpointSaved] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return max(0.0, self.ended_at - self.started_at)


def read_endings(path: Path) -> Iterator[Ending]:
    """Yield the lines of ``attempts/ended.tsv``; skip incomplete and damaged ones."""
    with contextlib.suppress(OSError):
        for line in read_lines(path):
            fields = line.decode("utf-8", "replace").rstrip("\n").split("\t")
            if len(fields) == 7 and all(_WHOLE_NUMBER.fullmatch(fields[column]) for column in (0, 2, 3)):
                yield Ending(float(fields[0]), fields[1], int(fields[2]), int(fields[3]), fields[6])


def list_attempts(
    history: History,
    leases: list[dict[str, Any]],
    heartbeats: list[dict[str, Any]],
    endings: list[Ending],
    now: float,
) -> list[Attempt]:
    """Return the attempts from leases, records and heartbeats, oldest first.

    Parameters
    ----------
    history : History
        Records of ``metrics.jsonl``.
    leases : list of dict
        Contents of ``attempts/*.json``.
    heartbeats : list of dict
        Contents of ``heartbeat/*.json``.
    endings : list of Ending
        Lines of ``attempts/ended.tsv``; empty if somebody started the trainer by hand.
    now : float
        Current time, seconds since 1970; an attempt is running if its heartbeat is fresh.
    """
    records: dict[int, list[Record | Event]] = {}
    for record in [*history.train, *history.evaluations, *history.superseded]:
        records.setdefault(record.get("attempt") or 1, []).append(record)
    for event in history.events:
        records.setdefault(event.attempt or 1, []).append(event)
    numbered = {lease["attempt"]: lease for lease in leases}
    attempts = []
    for number in sorted(records.keys() | numbered.keys()):
        beats = [beat for beat in heartbeats if beat.get("attempt") == number]
        own = sorted(records.get(number, []), key=_time)
        attempts.append(_attempt(number, numbered.get(number, {}), own, beats))
    for attempt in attempts:
        _note_what_followed(attempt, endings)
    if attempts and attempts[-1].outcome == "killed" and not attempts[-1].followed:
        _mark_if_running(attempts[-1], heartbeats, now)
    _hand_over_losses(attempts)
    return attempts


def _attempt(number: int, lease: dict[str, Any], records: list[Record | Event], beats: list[dict[str, Any]]) -> Attempt:
    signs = [_time(record) for record in records] + [float(beat.get("time") or 0) for beat in beats]
    started_at = float(lease.get("started_at") or min(signs, default=0.0))
    attempt = Attempt(number, started_at, max([started_at, *signs]))
    attempt.job_id = str(lease.get("job_id") or "")
    attempt.restart = int(lease.get("restart_count") or 0)
    attempt.world_size = int(lease.get("world_size") or 1)
    attempt.hosts = joined(lease.get("hosts"))
    for record in records:
        if not isinstance(record, Event):
            attempt.progress.append((record["time"], record["step"]))
        elif isinstance(record, CheckpointSaved):
            attempt.checkpoints.append(record)
        elif isinstance(record, Started):
            _note_start(attempt, record)
        elif isinstance(record, Resumed):
            attempt.resumed_from = record.checkpoint or ""
            attempt.steps_lost = record.steps_lost or 0
            attempt.first_step = record.step
        elif isinstance(record, _ENDINGS) and attempt.outcome != Diverged.name:
            _note_ending(attempt, record)
    steps = [step for _, step in attempt.progress]
    attempt.last_step = max([attempt.first_step, *steps, *(saved.step for saved in attempt.checkpoints)])
    return attempt


def _time(record: Record | Event) -> float:
    return record.time_s if isinstance(record, Event) else record["time"]


def _note_start(attempt: Attempt, event: Started) -> None:
    attempt.world_size = event.world_size or attempt.world_size
    attempt.device = event.device or ""
    attempt.hosts = joined(event.hosts) or attempt.hosts
    attempt.job_id = event.job_id or attempt.job_id
    attempt.first_step = event.start_step or event.step
    attempt.progress.append((event.time_s, attempt.first_step))


def _note_ending(attempt: Attempt, event: Finished | Stopped | Failed | Diverged) -> None:
    attempt.outcome = event.name
    attempt.ended_at = max(attempt.started_at, event.time_s)
    attempt.exit_code = event.exit_code if isinstance(event, Stopped | Failed) else None
    if isinstance(event, Stopped):
        attempt.cause = event.cause or "asked to stop"
    elif isinstance(event, Failed):
        attempt.cause = event.error or "failed"
    elif isinstance(event, Diverged):
        attempt.cause = "the loss or a gradient was not finite"
    else:
        attempt.cause = "last step done"


def _note_what_followed(attempt: Attempt, endings: list[Ending]) -> None:
    for ending in endings:
        if (
            attempt.job_id == ending.job_id
            and attempt.restart == ending.restart
            and ending.time >= attempt.started_at - 1
        ):
            attempt.followed = ending.followed
            if attempt.exit_code is None:
                attempt.exit_code = ending.exit_code
            if attempt.outcome == "killed":
                attempt.ended_at = max(attempt.ended_at, ending.time)
                attempt.cause = _signal_text(ending.exit_code)
            return


def _signal_text(exit_code: int) -> str:
    """Return the meaning of a shell's exit code for a process that wrote no final record."""
    if exit_code > 128:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(exit_code - 128).name}"
    return NO_FINAL_RECORD


def _mark_if_running(attempt: Attempt, heartbeats: list[dict[str, Any]], now: float) -> None:
    for beat in heartbeats:
        age_s = now - float(beat.get("time") or 0)
        alive = age_s < SILENT_BEATS * float(beat.get("interval_s") or 10.0)
        if (
            alive
            and beat.get("state") not in ("finished", "stopped", "failed")
            and beat.get("attempt")
            in (
                None,
                attempt.number,
            )
        ):
            attempt.outcome, attempt.cause = "running", "running now"
            attempt.ended_at = now
            attempt.last_step = max(attempt.last_step, int(beat.get("step") or 0))


def _hand_over_losses(attempts: list[Attempt]) -> None:
    """Assign lost steps to the attempt that lost them; the records assign them to the next one."""
    noticed = [attempt.steps_lost for attempt in attempts]
    for attempt in attempts:
        attempt.steps_lost = 0
    for index, steps in enumerate(noticed):
        earlier = attempts[:index]
        # attempts that failed before their first step have lost nothing
        beyond = [attempt for attempt in earlier if attempt.last_step > attempts[index].first_step]
        if steps and earlier:
            (beyond or earlier)[-1].steps_lost += steps
