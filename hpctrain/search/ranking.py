"""Which trials are best: by the one objective, or those that no other beats in all objectives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
    numbers = {trial.number for trial in front}
    return front + [trial for trial in finished if trial.number not in numbers]


def pareto_front(section: StudySection, finished: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other one equals or beats in all objectives, and beats in at least one."""
    if not finished:
        return []
    costs = np.array([trial.scores for trial in finished], dtype=np.float64) * signs(section)
    order = np.lexsort(costs.T[::-1])  # so that a trial is beaten only by ones before it
    front: list[int] = []
    beaters = np.empty((0, costs.shape[1]))
    for place in order:
        mine = costs[place]
        if not ((beaters <= mine).all(axis=1) & (beaters != mine).any(axis=1)).any():
            front.append(int(place))
            beaters = np.vstack([beaters, mine])
    return [finished[place] for place in sorted(front)]
