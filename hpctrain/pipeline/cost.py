"""What a stage has cost: time, cores, GPUs and energy of all its attempts, also of those that were killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hpctrain.cost import sums
from hpctrain.cost.hours import S_PER_H, attempts_of, energy_kwh_of, per_rank
from hpctrain.errors import HpctrainError
from hpctrain.launch.history import read_history
from hpctrain.pipeline.folder import RUNNING, StageDir
from hpctrain.pipeline.section import TRAIN
from hpctrain.profile.load import load_profile
from hpctrain.rundir import read_json, write_json


@dataclass(frozen=True)
class Cost:
    """Sums over the attempts of a stage, or over stages.

    Parameters
    ----------
    seconds : float
        Time while it ran, without the time in the queue.
    cpu_h, gpu_h : float
        Hours times the number of cores, and of GPUs, that it asked for.
    kwh : float or None
        Energy; None where no sensor has measured it.
    attempts : int
        Number of attempts; for several stages their sum.
    """

    seconds: float = 0.0
    cpu_h: float = 0.0
    gpu_h: float = 0.0
    kwh: float | None = None
    attempts: int = 0

    def __add__(self, other: Cost) -> Cost:
        measured = [each for each in (self.kwh, other.kwh) if each is not None]
        return Cost(
            self.seconds + other.seconds,
            self.cpu_h + other.cpu_h,
            self.gpu_h + other.gpu_h,
            sum(measured) if measured else None,
            self.attempts + other.attempts,
        )


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum of costs."""
    return sum(costs, Cost())


def cost_of(stage: StageDir, runs: bool = False) -> Cost:
    """Return what a stage has cost this time through the pipeline; up to now, if it `runs`."""
    return _of_training(stage) if stage.section().does == TRAIN else _of_commands(stage, runs)


def cost_of_commands(stage: StageDir, since: float | None = None) -> sums.Cost | None:
    """Return what a stage of commands has cost, as runs are counted; None for a stage that trains.

    Parameters
    ----------
    stage : StageDir
    since : float, optional
        A stage that was last at work before this time [s since 1970] has cost nothing.
    """
    if stage.section().does == TRAIN:
        return None
    state = stage.read_state()
    if since is not None and state.started_at < since:
        return sums.Cost()
    found = _of_commands(stage, runs=state.state == RUNNING)
    hours = found.seconds / S_PER_H
    return sums.Cost(found.seconds, hours, found.gpu_h, found.cpu_h, attempts=found.attempts)


def sealed_cost(result: Mapping[str, Any] | None) -> Cost | None:
    """Return what results have cost, as ``stage.json`` says; None if it does not."""
    found = (result or {}).get("cost")
    if not isinstance(found, dict):
        return None
    return Cost(**{key: value for key, value in found.items() if key in Cost.__dataclass_fields__})


def begin_attempt(stage: StageDir, work: Path) -> None:
    """Note that the commands of a stage begin; an attempt that was killed has lasted until its last sign of life."""
    spent = _read(stage)
    if spent.began_at:
        spent = spent.ended(_last_sign(stage, work, spent.began_at))
    _write(stage, replace(spent, began_at=time.time(), attempts=spent.attempts + 1))


def end_attempt(stage: StageDir) -> None:
    """Note that the commands of a stage have ended."""
    _write(stage, _read(stage).ended(time.time()))


@dataclass(frozen=True)
class _Spent:
    """Time of the attempts that have ended, and when the one that has not began."""

    seconds: float = 0.0
    attempts: int = 0
    began_at: float = 0.0

    def ended(self, at: float) -> _Spent:
        return replace(self, seconds=self.seconds + at - self.began_at, began_at=0.0) if self.began_at else self


def _read(stage: StageDir) -> _Spent:
    found = read_json(stage.path / "spent.json", {})
    return _Spent(**{key: value for key, value in (found or {}).items() if key in _Spent.__dataclass_fields__})


def _write(stage: StageDir, spent: _Spent) -> None:
    write_json(stage.path / "spent.json", asdict(spent))


def _last_sign(stage: StageDir, work: Path, began_at: float) -> float:
    """Return when an attempt ended that could not say so: by the record of its job, else by what it wrote last."""
    if ended := [each.time for each in read_history(stage) if each.time >= began_at]:
        return min(ended)
    times = [path.lstat().st_mtime for path in (work, *work.rglob("*")) if os.path.lexists(path)]
    return max([began_at, *times])


def _of_commands(stage: StageDir, runs: bool) -> Cost:
    spent, state = _read(stage), stage.read_state()
    if state.ended_at >= spent.began_at:
        spent = spent.ended(state.ended_at)
    else:
        spent = spent.ended(time.time() if runs else _last_sign(stage, stage.work(state.key), spent.began_at))
    asked, hours = stage.section().launch, spent.seconds / S_PER_H
    return Cost(spent.seconds, hours * asked.cpus, hours * asked.gpus, None, spent.attempts)


def _of_training(stage: StageDir) -> Cost:
    attempts = attempts_of(stage)
    rank_h = sum(seconds * num_ranks for seconds, num_ranks in attempts) / S_PER_H
    cores, gpus = _per_rank(stage)
    return Cost(
        sum(seconds for seconds, _ in attempts), rank_h * cores, rank_h * gpus, energy_kwh_of(stage), len(attempts)
    )


def _per_rank(stage: StageDir) -> tuple[float, float]:
    """Return the number of cores and of GPUs that a rank of a training has."""
    try:
        return per_rank(load_profile(stage.profile).launch)
    except (HpctrainError, OSError):
        return 1.0, 0.0
