"""Which trials are best: by the one objective, or those that no other beats in all objectives."""

from __future__ import annotations

from collections.abc import Sequence

from hpctrain.search.section import StudySection
from hpctrain.search.trials import Trial
from hpctrain.states import FINISHED


def signs(section: StudySection) -> list[int]:
    """Return 1 for each objective that is minimised and -1 for each that is maximised."""
    return [-1 if objective.direction == "maximize" else 1 for objective in section.objectives]


def ranked(section: StudySection, trials: Sequence[Trial]) -> list[Trial]:
    """Return the finished trials, best first; with several objectives the Pareto front first, each part by number."""
    finished = [trial for trial in trials if trial.state == FINISHED and trial.scores is not None]
    if len(section.objectives) == 1:
        sign = signs(section)[0]
        return sorted(finished, key=lambda trial: (sign * trial.scores[0], trial.number))  # type: ignore[index]
    front = pareto_front(section, finished)
    return front + [trial for trial in finished if trial not in front]


def pareto_front(section: StudySection, finished: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other one equals or beats in all objectives, and beats in at least one."""
    costs = {
        trial.number: [sign * score for sign, score in zip(signs(section), trial.scores or [], strict=True)]
        for trial in finished
    }

    def is_beaten(mine: list[float]) -> bool:
        return any(
            all(a <= b for a, b in zip(theirs, mine, strict=True)) and theirs != mine for theirs in costs.values()
        )

    return [trial for trial in finished if not is_beaten(costs[trial.number])]
