"""What the page and the live table say about a study, worked out once from its trials."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hpctrain.errors import HpctrainError
from hpctrain.search.folder import StudyDir, StudyRecord
from hpctrain.search.ranking import pareto_front, ranked
from hpctrain.search.section import StudySection
from hpctrain.search.space import Parameter, Space
from hpctrain.search.trials import DIVERGED, GIVEN_BACK, PRUNED, WAITING, Trial, is_running
from hpctrain.states import FAILED, FINISHED

STATE_CSS = {FINISHED: "good", PRUNED: "c2", DIVERGED: "held", FAILED: "bad", WAITING: "waiting"}
"""Colour of each state; those of running trials and of trials that were given back are in :func:`state_css`."""
EDGE_SHARE = 0.05
"""A best value this close to an end of its range, as a share of the range, counts as at the end."""
_FEW = 5


class Saved(NamedTuple):
    """What pruning saved: an estimate.

    Parameters
    ----------
    hours : float
        GPU hours.
    kwh : float or None
        Energy, where sensors measured that of the pruned trials.
    trials, estimated : int
        Pruned trials, and those of them that did at least one step.
    """

    hours: float
    kwh: float | None
    trials: int
    estimated: int


@dataclass(frozen=True)
class StudyFacts:
    """One study, read once.

    Parameters
    ----------
    study : StudyDir
    section : StudySection
    record : StudyRecord
    space : Space
    trials : sequence of Trial
        By number.
    order : list of Trial
        The finished ones, best first.
    front : list of Trial
        Those that no other beats in all objectives; the best one if there is one objective.
    hours : str
        ``GPU hours``, or ``rank hours`` where the trials use no GPU.
    now : float
        Seconds since 1970.
    """

    study: StudyDir
    section: StudySection
    record: StudyRecord
    space: Space
    trials: Sequence[Trial]
    order: list[Trial]
    front: list[Trial]
    hours: str
    now: float

    @property
    def metrics(self) -> list[str]:
        """Name of each objective."""
        return [objective.metric or "objective" for objective in self.section.objectives]

    @property
    def lower_is_better(self) -> list[bool]:
        return [objective.direction != "maximize" for objective in self.section.objectives]

    @property
    def is_single(self) -> bool:
        return len(self.section.objectives) == 1

    @property
    def best(self) -> Trial | None:
        return self.order[0] if self.order else None

    def counts(self) -> Counter[str]:
        return Counter(trial.state for trial in self.trials)

    def spent(self) -> tuple[float, float | None]:
        """Return the GPU hours and the energy [kWh] of all trials; None if no sensor measured it."""
        kwh = [trial.kwh for trial in self.trials if trial.kwh is not None]
        return sum(trial.gpu_hours for trial in self.trials), sum(kwh) if kwh else None

    def gone(self) -> list[Trial]:
        """Return the trials that failed, diverged or were given back."""
        return [trial for trial in self.trials if trial.state in (FAILED, DIVERGED, *GIVEN_BACK)]


def facts_of(study: StudyDir, trials: Sequence[Trial], now: float) -> StudyFacts:
    """Return the facts of a study.

    Raises
    ------
    SiteError
        The study file is missing or damaged.
    """
    section = study.section()
    order = ranked(section, trials)
    front = order[:1] if len(section.objectives) == 1 else pareto_front(section, order)
    return StudyFacts(
        study, section, study.read_record(), Space.of(section.space), trials, order, front, _hours_of(study), now
    )


def _hours_of(study: StudyDir) -> str:
    try:
        return "GPU hours" if study.base_profile().launch.gpus_per_node else "rank hours"
    except (HpctrainError, OSError):
        return "GPU hours"


def saved_by_pruning(trials: Sequence[Trial]) -> Saved:
    """Estimate what the pruned trials would have cost beyond what they did cost.

    A trial that ended at step s of S after h hours would have needed h (S - s) / s more, if all steps took the same
    time and it had not ended early for another reason.
    """
    pruned = [trial for trial in trials if trial.state == PRUNED]
    judged = [trial for trial in pruned if 0 < trial.step <= trial.total_steps]
    rest = [(trial.total_steps - trial.step) / trial.step for trial in judged]
    kwh = [share * trial.kwh for share, trial in zip(rest, judged, strict=True) if trial.kwh is not None]
    hours = sum(share * trial.gpu_hours for share, trial in zip(rest, judged, strict=True))
    return Saved(hours, sum(kwh) if kwh else None, len(pruned), len(judged))


def state_css(trial: Trial) -> str:
    """Return the colour of a trial's state."""
    if is_running(trial):
        return "busy"
    return STATE_CSS.get(trial.state, "held")


def at_the_edge(facts: StudyFacts) -> list[str]:
    """Return a sentence for each parameter whose best values are at an end of its range.

    The middle of the best tenth of the trials counts, or of the best five if there are fewer than fifty.
    """
    if not facts.is_single or len(facts.order) < 2 * _FEW:
        return []
    found = []
    for parameter in facts.space.parameters:
        section = parameter.section
        if section.choices is not None:
            continue
        there = [trial.values[parameter.key] for trial in facts.order if parameter.key in trial.values]
        if len(there) < 2 * _FEW:
            continue
        share = share_of(parameter, float(np.median(there[: max(_FEW, len(there) // 10)])))
        for is_end, name, value in (
            (share <= EDGE_SHARE, "lower", section.low),
            (share >= 1 - EDGE_SHARE, "upper", section.high),
        ):
            if is_end:
                found.append(
                    f"The best trials are at the {name} end of {parameter.key} ({value:g}). A wider range may hold "
                    "better ones."
                )
    return found


def share_of(parameter: Parameter, value: object) -> float:
    """Return the place of a value between the ends of a parameter, from 0 to 1; choices are evenly spaced.

    Returns
    -------
    float
        NaN if the value is none of the parameter's.
    """
    section = parameter.section
    if section.choices is not None:
        names = parameter.names
        return names.index(str(value)) / max(1, len(names) - 1) if str(value) in names else math.nan
    low, high, at = float(section.low), float(section.high), float(value)  # type: ignore[arg-type]
    if section.log:
        low, high, at = math.log(low), math.log(high), math.log(at) if at > 0 else math.nan
    return (at - low) / (high - low)


def short_names(space: Space) -> dict[str, str]:
    """Return the shortest ending of each key that no other parameter shares, such as ``learning_rate``."""
    keys = [parameter.key for parameter in space.parameters]
    found = {}
    for key in keys:
        parts = key.split(".")
        endings = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        found[key] = next(
            (end for end in endings if sum(other == end or other.endswith(f".{end}") for other in keys) == 1), key
        )
    return found


def evenly(items: Sequence[Trial], most: int) -> list[Trial]:
    """Return at most `most` of the items, evenly spaced, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[index] for index in np.unique(np.linspace(0, len(items) - 1, most).astype(np.int64))]
