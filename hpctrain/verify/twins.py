"""Run one profile twice on this machine: once undisturbed, once interrupted at random moments and resumed."""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.errors import EXIT_FINISHED, EXIT_RANKS_LOST, EXIT_REQUEUE, HpctrainError, SiteError
from hpctrain.launch.environment import clean_environment
from hpctrain.launch.ranks import LocalRanks
from hpctrain.metrics.events import CheckpointSaved, Finished, Started, read_event
from hpctrain.metrics.read import read_history
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir
from hpctrain.verify.phases import Follower
from hpctrain.verify.plan import CUTS, KILL_ALL, Aim, Pace, plan_cuts

_POLL_S = 0.002
_GRACE_S = 10.0
"""Time from SIGTERM to SIGKILL for the remaining ranks after one has died [s]."""
_SAY_EVERY_S = 10.0
_EARLY = 0.5
"""Share of an evaluation or a save at whose start to aim: on a machine that has become faster, the rest may be over."""
_EXPLAINED = {
    EXIT_FINISHED,
    EXIT_REQUEUE,
    EXIT_RANKS_LOST,
    128 + signal.SIGTERM,
    -signal.SIGKILL,
    -signal.SIGTERM,  # before Python has started, nothing handles them
    -signal.SIGUSR2,
}
_TAIL_LINES = 12


@dataclass(frozen=True)
class Cut:
    """One interruption of the second run.

    Parameters
    ----------
    how : str
        Key of :data:`~hpctrain.verify.plan.CUTS`.
    phase : str
        Part of the attempt that was interrupted.
    at_step : int or None
        Last recorded step of the attempt; None if there is none.
    after_s : float
        Time since the start of the attempt [s].
    exit_codes : list of int
        Exit codes of the ranks; negative if a signal killed a rank.
    resumed_from : int
        Step of the checkpoint from which the run continued.
    steps_redone : int
        Number of steps from that checkpoint to the last recorded step; the next attempt repeated them.
    """

    how: str
    phase: str
    at_step: int | None
    after_s: float
    exit_codes: list[int]
    resumed_from: int = 0
    steps_redone: int = 0


@dataclass(frozen=True)
class Twins:
    """The interruptions of the second run.

    Parameters
    ----------
    cuts : list of Cut
    attempts : int
        Number of attempts.
    too_late : str
        The signal that came when the run had already finished; empty if none did.
    """

    cuts: list[Cut]
    attempts: int
    too_late: str


def make_twin(runs_dir: Path, name: str, run_id: str, profile_text: str) -> RunDir:
    """Make a run directory for one of the two runs."""
    run = RunDir.create(runs_dir, name, run_id)
    run.profile.write_text(profile_text, encoding="utf-8")
    return run


def start_ranks(run: RunDir, profile: Profile, attempt: int) -> LocalRanks:
    """Start an attempt as the local launcher does."""
    environment = clean_environment() | {
        "OMP_NUM_THREADS": str(profile.launch.cpus_per_rank),
        "PYTHONUNBUFFERED": "1",
        "HPCTRAIN_JOB_ID": f"verify-{os.getpid()}",
        "HPCTRAIN_RESTART_COUNT": str(attempt),
    }
    command = [sys.executable, "-m", "hpctrain.train", str(run.path)]
    return LocalRanks(command, profile.launch.world_size, lambda rank: _log(run, attempt, rank), environment)


def run_straight(run: RunDir, profile: Profile, say: Callable[[str], None]) -> Pace:
    """Run to the end in one attempt.

    Returns
    -------
    Pace
        Durations of the parts of the attempt.

    Raises
    ------
    HpctrainError
        The run did not finish; the message quotes the log.
    """
    started_at = time.time()
    with start_ranks(run, profile, 0) as ranks:
        _watch(run, ranks, say)
        codes = ranks.join(_GRACE_S)
    if set(codes) != {EXIT_FINISHED}:
        raise _own_failure(run, 0, codes, "the undisturbed run does not finish:")
    return measure(run, started_at, time.time())


def measure(run: RunDir, started_at: float, ended_at: float) -> Pace:
    """Return the durations of the parts of a finished run of one attempt, from its records."""
    history = read_history(run)
    first, last = history.train[0], history.train[-1]
    steps = max(1, last["step"] - first["step"])
    evaluations = [record["seconds"] for record in history.evaluations]
    saves = history.all_of(CheckpointSaved)
    return Pace(
        start_s=max(0.0, first["time"] - started_at),
        step_s=max(0.0, last["time"] - first["time"] - sum(evaluations)) / steps,
        evaluation_s=statistics.median(evaluations) if evaluations else 0.0,
        save_s=statistics.median([event.seconds for event in saves]) if saves else 0.0,
        finish_s=max(0.0, ended_at - last["time"]),
        last_step=last["step"],
        evaluated=tuple(sorted({record["step"] for record in history.evaluations})),
        saved=tuple(sorted({event.step for event in saves})),
    )


def run_cut(run: RunDir, profile: Profile, num_cuts: int, seed: int, pace: Pace, say: Callable[[str], None]) -> Twins:
    """Run to the end, and interrupt the run `num_cuts` times.

    Parameters
    ----------
    run : RunDir
    profile : Profile
    num_cuts : int
        Number of attempts to end by a signal.
    seed : int
        Seed of ways, places and moments.
    pace : Pace
        Pace of the undisturbed run.
    say : callable
        Receives a line about each interruption.

    Returns
    -------
    Twins

    Raises
    ------
    HpctrainError
        An attempt ended with an exit code that the signal does not explain.
    """
    draw = random.Random(seed)
    cuts: list[tuple[Cut, int]] = []
    aims = plan_cuts(num_cuts, seed, pace)
    too_late = ""
    for number, aim in enumerate(aims):
        cut = _cut_once(run, profile, number, aim, pace, draw)
        if set(cut.exit_codes) == {EXIT_FINISHED}:
            too_late = aim.how
            say(f"  {aim.how} came after the run had finished; {num_cuts - number} interruptions were not possible")
            break
        cuts.append((cut, run.newest_attempt() + 1))
        say(f"  interruption {number + 1} of {num_cuts}: {cut.how}, {cut.phase}, exit codes {_listed(cut.exit_codes)}")
    if not too_late:
        with start_ranks(run, profile, len(cuts)) as ranks:
            _watch(run, ranks, say)
            codes = ranks.join(_GRACE_S)
        if set(codes) != {EXIT_FINISHED}:
            raise _own_failure(run, len(cuts), codes, "the last attempt, which is not interrupted, does not finish:")
    return Twins(_with_resumes(run, cuts), len(cuts) + 1, too_late)


def _cut_once(run: RunDir, profile: Profile, number: int, aim: Aim, pace: Pace, draw: random.Random) -> Cut:
    """Start an attempt and interrupt it."""
    signal_number, whom = CUTS[aim.how]
    attempt = run.newest_attempt() + 1
    with start_ranks(run, profile, number) as ranks:
        begun_s = time.monotonic()
        seen = Follower(run, attempt)
        _wait_for(aim, pace, ranks, seen, begun_s)
        living = ranks.living()
        failed = [code for code in ranks.codes() if code not in (None, EXIT_FINISHED)]
        if failed:
            raise _own_failure(run, number, ranks.join(_GRACE_S), "an attempt ended before it was interrupted:")
        phase = seen.phase(pace)
        after_s = time.monotonic() - begun_s
        ranks.signal(signal_number, living if whom == "all" or not living else [draw.choice(living)])
        codes = ranks.join(_GRACE_S)
    if aim.how == KILL_ALL:
        phase = seen.phase(pace)  # the attempt has ended, so this is the part that was interrupted
    if not set(codes) <= _EXPLAINED:
        raise _own_failure(run, number, codes, f"{aim.how} does not explain how an attempt ended ({phase}):")
    at_step = None if seen.started is None else seen.last_step
    return Cut(aim.how, phase, at_step, round(after_s, 2), codes)


def _wait_for(aim: Aim, pace: Pace, ranks: LocalRanks, seen: Follower, begun_s: float) -> None:
    """Wait for the planned moment; return earlier if the attempt is about to pass it or has ended.

    The machine may be faster now than it was for the undisturbed run, so the clock alone would come too late.
    """
    if aim.place in ("start", "any"):
        window_s = pace.start_s
        if aim.place == "any":
            newest = next((step for step, _ in list_checkpoints(seen.run)), 0)
            window_s += max(0, aim.step - newest) * pace.step_s
        _sleep_until(begun_s + aim.share * window_s, ranks, seen, lambda: seen.made_updates and _is_passed(aim, seen))
        return

    def is_there() -> bool:
        if aim.place == "save":
            return (step := seen.saving()) is not None and step >= aim.step
        if aim.place == "finish":
            return seen.started is not None and seen.last_step >= aim.step
        is_right = aim.place != "evaluation" or seen.last_step in pace.evaluated
        return is_right and seen.made_updates and seen.last_step >= aim.step

    while ranks.living() and not is_there() and (aim.place == "finish" or seen.last_step < pace.last_step):
        time.sleep(_POLL_S)
        seen.update()
    span_s = {
        "update": 2 * pace.step_s,
        "evaluation": _EARLY * pace.evaluation_s,
        "save": _EARLY * pace.save_s,
        "finish": pace.finish_s,
    }
    moment_s = time.monotonic() + aim.share * span_s[aim.place]
    _sleep_until(moment_s, ranks, seen, lambda: Finished in seen.events)


def _is_passed(aim: Aim, seen: Follower) -> bool:
    """Return whether an attempt has done its first step, or all its steps, before the planned moment."""
    return aim.place == "start" or seen.last_step >= aim.step


def _sleep_until(moment_s: float, ranks: LocalRanks, seen: Follower, is_passed: Callable[[], bool]) -> None:
    while (left_s := moment_s - time.monotonic()) > 0 and ranks.living() and not is_passed():
        time.sleep(min(left_s, 5 * _POLL_S))
        seen.update()


def _watch(run: RunDir, ranks: LocalRanks, say: Callable[[str], None]) -> None:
    """Report the progress of an attempt from time to time, until a rank has ended."""
    seen = Follower(run, run.newest_attempt() + 1)
    next_s = time.monotonic() + _SAY_EVERY_S
    while len(ranks.living()) == len(ranks.processes):
        time.sleep(0.05)
        if time.monotonic() >= next_s:
            next_s += _SAY_EVERY_S
            seen.update()
            if seen.started is not None:
                say(f"  step {seen.last_step} of {seen.started.total_steps}")


def _with_resumes(run: RunDir, cuts: list[tuple[Cut, int]]) -> list[Cut]:
    """Add to each interruption the step from which the next attempt that took a lease continued."""
    events = map(read_event, run.read_metrics("event"))
    starts = {event.attempt: event.start_step for event in events if isinstance(event, Started)}
    joined = []
    for cut, following in cuts:
        start = next((starts[number] for number in sorted(starts) if number >= following), 0)
        joined.append(replace(cut, resumed_from=start, steps_redone=max(0, (cut.at_step or 0) - start)))
    return joined


def _log(run: RunDir, attempt: int, rank: int) -> Path:
    return run.logs / f"verify.{attempt:03d}-rank-{rank:04d}.log"


def _own_failure(run: RunDir, attempt: int, codes: list[int], what: str) -> HpctrainError:
    """Return the error for an attempt that ended for another reason; it quotes the log of the rank that explains the
    end best."""
    told = [rank for rank, code in enumerate(codes) if 1 <= code <= 6]
    ended = [rank for rank, code in enumerate(codes) if code not in (EXIT_FINISHED, EXIT_REQUEUE)]
    rank = (told or ended or [0])[0]
    lines = _log(run, attempt, rank).read_text(encoding="utf-8", errors="replace").splitlines()
    quoted = "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:]) or "    (its log is empty)"
    error: Any = SiteError(
        f"{run.path}: {what} exit codes {_listed(codes)}. Last lines of rank {rank}:\n{quoted}\n  whole log: {run.logs}"
    )
    if 2 <= codes[rank] <= 6:
        error.exit_code = codes[rank]
    return error


def _listed(codes: list[int]) -> str:
    return ", ".join(map(str, codes))
