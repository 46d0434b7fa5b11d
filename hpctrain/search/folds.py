"""Which task of the array trains which fold of which trial, where trials are cross-validated.

Tasks start in the order of their indices, as many at once as the study allows. So that a pruner can judge a trial
before its last folds start, tasks go through blocks of as many trials as run at once: first fold of each, second fold
of each, and so on.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpctrain.search.section import StudySection


def place_of(section: StudySection, task: int) -> tuple[int, int]:
    """Return the trial of a task, and the place of its fold among the folds that each trial holds out."""
    if not section.folds:
        return task, 0
    width, number = section.parallel, len(section.held_out_folds)
    block, within = divmod(task, width * number)
    place, trial = divmod(within, width)
    return block * width + trial, place


def tasks_of(section: StudySection, trials: Iterable[int]) -> list[int]:
    """Return the tasks of some trials, in the order in which they start."""
    if not section.folds:
        return sorted(trials)
    width, number = section.parallel, len(section.held_out_folds)
    return sorted(
        trial // width * width * number + place * width + trial % width for trial in trials for place in range(number)
    )
