"""Report the status of a run: according to its platform if that knows the job, else to the run directory.

A status names its source.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from dataclasses import dataclass, field

from hpctrain.distributed.process import identity, is_gone
from hpctrain.errors import EXIT_FINISHED
from hpctrain.launch.history import NEVER_STARTED, EndedAttempt, avoided_nodes, newest_checkpoint, read_history
from hpctrain.launch.lastwords import LastWords, read_last_words
from hpctrain.launch.queue import Queue
from hpctrain.launch.runs import newest_job
from hpctrain.launch.targets.target import ENDING, JobState
from hpctrain.monitor.ledger import read_ledgers, sum_up
from hpctrain.monitor.raised import Raised, read_raised
from hpctrain.monitor.sensors import Sensors
from hpctrain.profile.lookup import words_of_file
from hpctrain.records import Record
from hpctrain.rundir import RunDir, read_json
from hpctrain.states import (
    ACTIVE,
    CANCELLED,
    ENDED_BEATS,
    FAILED,
    FINISHED,
    LOST,
    NOT_SUBMITTED,
    PENDING,
    REQUEUED,
    RUNNING,
    SILENT_BEATS,
    STOPPED,
    UNKNOWN,
    UNREADABLE,
)
from hpctrain.words import Words

_PACES = ("ok", "warm", "hot", "critical")


@dataclass(frozen=True)
class RunStatus:
    """The status of a run.

    Parameters
    ----------
    run : RunDir
    state : str
        One of :data:`hpctrain.states.MEANINGS`.
    source : str
        Source of the state: ``squeue``, ``scontrol``, ``sacct``, ``supervisor``, ``heartbeat`` or ``run directory``.
    detail : str
        Why the run waits, when it is expected to start, or how it ended.
    job_id : str
        Job id of the newest submission; empty if the run was never submitted.
    step, total_steps : int
        Number of steps done, and of the whole run; 0 if unknown.
    loss, validation_loss, samples_per_s : float or None
        The last recorded values.
    eta_s : float or None
        Seconds to the last step at the present rate; None if the run is not running.
    num_attempts : int
    checkpoint : str
        Newest whole checkpoint, ``none`` if there is none.
    heartbeat_age_s : float or None
        Time since the last heartbeat of any rank [s].
    exit_code : int or None
        Exit code of the last attempt, once it has ended; None while an attempt is running.
    avoided_nodes : list of str
        Nodes that failed repeatedly, which the next attempt avoids.
    bad_data : str
        Bad values and samples without weight that the newest attempt has read; empty if none.
    warnings, notes : list of str
        Reasons to doubt the result of the newest attempt, and notes about its data.
    machine : str
        Power, temperature, pace and energy in one line; empty if nothing was measured.
    alerts : list of Raised
        Alerts that are raised, the oldest first; of a run that has ended, those that were raised then.
    silent : list of str
        For each question that the platform could not answer, the reason.
    """

    run: RunDir
    state: str
    source: str
    detail: str = ""
    job_id: str = ""
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    validation_loss: float | None = None
    samples_per_s: float | None = None
    eta_s: float | None = None
    num_attempts: int = 0
    checkpoint: str = "none"
    heartbeat_age_s: float | None = None
    exit_code: int | None = None
    avoided_nodes: list[str] = field(default_factory=list)
    bad_data: str = ""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: str = ""
    alerts: list[Raised] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE

    @functools.cached_property
    def failed_gates(self) -> list[str]:
        """Gates that the finished model does not keep, in words; read when first asked for."""
        found = read_json(self.run.validation, {})
        gates = found.get("gates") if isinstance(found, dict) else None
        failed = [gate for gate in gates or [] if isinstance(gate, dict) and gate.get("passed") is False]
        return [f"{gate.get('asked')}: {gate.get('said')}" for gate in failed]

    @functools.cached_property
    def words(self) -> Words:
        """What users call the samples of the run; read from its profile when first asked for."""
        return words_of_file(self.run.profile)


def describe(run: RunDir, now: float | None = None, queue: Queue | None = None, ask_queue: bool = True) -> RunStatus:
    """Return the status of a run.

    Parameters
    ----------
    run : RunDir
    now : float, optional
        Seconds since 1970; None means the time of the clock.
    queue : Queue, optional
        Queue to ask. Share one between many runs, so that they wait only once for a controller that does not answer.
    ask_queue : bool
        Whether to ask a platform that has a queue; if False, only what is on this machine is read.

    Returns
    -------
    RunStatus
    """
    now = time.time() if now is None else now
    record = run.read_job()
    job = newest_job(run, record)
    words = read_last_words(run)
    beats = _heartbeats(run)
    history = read_history(run)
    queue = queue or Queue()
    target = queue.target_of(run, record)
    answer = JobState()
    if target is not None and (ask_queue or not target.has_queue):
        answer = queue.ask(target, job)
    if answer.state != UNKNOWN:
        # An attempt that died before its trainer took the lease is only in the history.
        begun = job.id in {*(attempt.get("job_id") for attempt in run.read_attempts()), *(e.job_id for e in history)}
        in_images = target is not None and target.runs_images
        state, detail = _from_platform(answer, words, history, begun, in_images)
        source = answer.source
    else:
        may_wait = not ask_queue and target is not None and target.has_queue
        is_here = target is not None and target.is_this_machine
        submitted = bool(record.get("submissions"))
        state, detail, source = _from_run(words, beats, history, now, may_wait, is_here, submitted)
    step = max([words.step, *(beat.get("step", 0) for beat in beats)])
    total_steps = max([words.total_steps, *(beat.get("total_steps", 0) for beat in beats)])
    return RunStatus(
        run,
        state,
        source,
        detail,
        job_id=job.id,
        step=step,
        total_steps=total_steps,
        loss=words.loss,
        validation_loss=words.validation_loss,
        samples_per_s=words.samples_per_s,
        eta_s=_eta_s(words, step, total_steps) if state == RUNNING else None,
        num_attempts=run.num_attempts(),
        checkpoint=newest_checkpoint(run),
        heartbeat_age_s=min((now - beat["time"] for beat in beats if "time" in beat), default=None),
        exit_code=None if state == RUNNING else history[-1].exit_code if history else words.exit_code,
        avoided_nodes=avoided_nodes(run, now),
        bad_data=words.bad_data,
        warnings=words.warnings,
        notes=words.notes,
        machine=_machine(run),
        alerts=read_raised(run),
        silent=list(answer.silent),
    )


def describe_any(run: RunDir, queue: Queue | None = None) -> RunStatus:
    """Return the status of one of many runs; an unreadable run gets a state of its own, and hides no other run.

    Parameters
    ----------
    run : RunDir
    queue : Queue, optional
        As of :func:`describe`.
    """
    try:
        os.listdir(run.path)
        return describe(run, queue=queue)
    except Exception as error:  # an error in one run must not hide the others
        reason = getattr(error, "strerror", None) or repr(error)
        return RunStatus(run, UNREADABLE, "run directory", f"{reason}; hpctrain status {run.path} shows more")


def _from_platform(
    answer: JobState, words: LastWords, history: list[EndedAttempt], begun: bool, in_images: bool
) -> tuple[str, str]:
    if answer.state == ENDING:  # the attempt has ended, and its record says whether another follows
        state = REQUEUED if history and history[-1].followed == "requeued" else _ended(words, history)[0] or RUNNING
        return state, "completing"
    if answer.state == PENDING:
        waits = ", ".join(filter(None, [answer.reason, f"expected to start {answer.start}" if answer.start else ""]))
        return (REQUEUED if begun else PENDING), waits
    if answer.state in (RUNNING, REQUEUED):
        return answer.state, ", ".join(filter(None, [answer.where, f"until {answer.end}" if answer.end else ""]))
    if answer.state == FINISHED and words.finished:
        return FINISHED, ""
    if answer.state == FINISHED and in_images:  # its containers end with 0 then alone, and may have kept its files
        return FINISHED, "its files are not here; hpctrain pull brings them from where they are kept"
    if answer.state == CANCELLED:
        return CANCELLED, "saved, can be resumed" if words.stopped else answer.words
    ended, detail = _ended(words, history)
    return ended or FAILED, "; ".join(filter(None, [answer.words, detail]))


def _from_run(
    words: LastWords,
    beats: list[Record],
    history: list[EndedAttempt],
    now: float,
    may_wait: bool,
    is_here: bool,
    submitted: bool,
) -> tuple[str, str, str]:
    """Derive state, detail and source from the run's records and the heartbeats of its ranks.

    With `may_wait` the job may be in the queue, for its first attempt or for its next one, as nobody has asked. With
    `is_here` the ranks were started on the machine of the launcher.
    """
    alive = [
        beat
        for beat in beats
        if beat.get("state") not in ENDED_BEATS
        and now - beat.get("time", 0) < SILENT_BEATS * beat.get("interval_s", 10)
        and not is_gone(beat.get("process"))
        and not (is_here and _ended_with_this_machine(beat))
    ]
    if alive and not (words.finished or words.exit_code in range(1, 7)):
        hosts = ", ".join(sorted({str(beat.get("host")) for beat in alive}))
        ranks = "1 rank" if len(alive) == 1 else f"{len(alive)} ranks"
        return RUNNING, f"{ranks} alive on {hosts}", "heartbeat"
    if may_wait and history and history[-1].followed == "requeued" and history[-1].time >= int(words.started_at):
        return REQUEUED, f"exit code {history[-1].exit_code}, requeued", "run directory"
    state, detail = _ended(words, history)
    if state:
        return state, detail, "run directory"
    if beats:
        age_s = now - max(beat.get("time", 0) for beat in beats)
        here = "" if any(beat.get("host") == socket.gethostname() for beat in beats) else "; not seen from this host"
        return LOST, f"no heartbeat for {age_s:.0f} s{here}", "heartbeat"
    if submitted:
        return PENDING if may_wait else UNKNOWN, "submitted, no attempt has started", "run directory"
    return NOT_SUBMITTED, "", "run directory"


def recorded_state(
    words: LastWords, history: list[EndedAttempt], has_ranks: bool, is_submitted: bool
) -> tuple[str, str]:
    """Return the state and the detail that the records of a run give, whatever the time is and whoever is alive.

    A run that has begun and has no end on record is running as far as its records can say.

    Parameters
    ----------
    words : LastWords
    history : list of EndedAttempt
    has_ranks : bool
        Whether a rank has written a heartbeat.
    is_submitted : bool
    """
    last = history[-1] if history else None
    if last is not None and last.followed == "requeued" and last.time >= int(words.started_at):
        return REQUEUED, f"exit code {last.exit_code}, requeued"
    state, detail = _ended(words, history)
    if state:
        return state, detail
    if has_ranks:
        return RUNNING, ""
    return (PENDING, "submitted, no attempt has started") if is_submitted else (NOT_SUBMITTED, "")


def _ended_with_this_machine(beat: Record) -> bool:
    """Return whether a rank of a local run lived on this host before a reboot.

    After a power cut the run then counts as ended at once, and not only when its heartbeat is old enough.
    """
    boot_id = (beat.get("process") or {}).get("boot_id")
    return boot_id is not None and boot_id != identity()["boot_id"] and beat.get("host") == socket.gethostname()


def _ended(words: LastWords, history: list[EndedAttempt]) -> tuple[str, str]:
    """Return state and detail of the newest attempt's end according to its records; empty if it has no such record."""
    if words.finished:
        return FINISHED, ""
    if words.stopped and words.exit_code == EXIT_FINISHED:  # a trial that its study has ended early
        return STOPPED, f"{words.stopped}; saved, can be resumed"
    # The history counts whole seconds; an end that is older than the newest start belongs to an earlier attempt.
    last = history[-1] if history and history[-1].time >= int(words.started_at) else None
    if last is not None and last.followed == "terminated":
        return CANCELLED, "saved, can be resumed" if words.stopped else "can be resumed from its newest checkpoint"
    if last is not None and last.followed == NEVER_STARTED:
        return CANCELLED, "a job that it had to wait for did not finish"
    if words.error:
        return FAILED, f"exit code {words.exit_code}: {words.error}"
    if last is not None and last.followed != "requeued":
        state = {"finished": FINISHED, "failed": FAILED}.get(last.followed, STOPPED)
        return state, f"exit code {last.exit_code}, {last.followed}"
    if words.stopped:
        return STOPPED, f"{words.stopped}; saved, can be resumed"
    return "", ""


def _machine(run: RunDir) -> str:
    """Return power and temperature of the machines of the newest attempt, and the energy of the run so far."""
    states = read_ledgers(run)
    newest = max((state.attempt for state in states), default=0)
    values = [state.values for state in states if state.attempt == newest]
    watts = [Sensors.power_w(each) for each in values]
    celsius = [each["gpu_temperature_c"] for each in values if "gpu_temperature_c" in each]
    worst = max((pace for each in values if (pace := each.get("pace")) in _PACES), key=_PACES.index, default="ok")
    energy = sum_up(states)
    parts = [
        f"{sum(each for each in watts if each is not None):,.0f} W" if any(watts) else "",
        f"{max(celsius):.0f} °C" if celsius else "",
        worst if worst != "ok" else "",
        f"{energy.kwh:.3g} kWh so far" if energy.kwh is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _heartbeats(run: RunDir) -> list[Record]:
    beats = run.read_heartbeats()
    newest = max((beat.get("attempt", 0) for beat in beats), default=0)
    return [beat for beat in beats if beat.get("attempt", 0) == newest]


def _eta_s(words: LastWords, step: int, total_steps: int) -> float | None:
    if not words.steps_per_s or not total_steps:
        return None
    return max(0, total_steps - step) / words.steps_per_s
