"""Which trials end before their last step, as a pure function of the evaluations of all trials.

References
----------
Jamieson & Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", arXiv:1502.07943
Li et al. 2018, "Hyperband", JMLR 18, arXiv:1603.06560
Wilcoxon 1945, "Individual Comparisons by Ranking Methods", Biometrics Bulletin 1, 80
Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (ASHA), arXiv:1810.05934
"""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Sequence

from hpctrain.search.section import WILCOXON, PrunerSection, StudySection
from hpctrain.search.trials import Trial
from hpctrain.states import FINISHED


def is_hopeless(section: StudySection, trials: Sequence[Trial], number: int) -> bool:
    """Return whether the pruner of a study ends a trial after its newest evaluation.

    Parameters
    ----------
    section : StudySection
    trials : sequence of Trial
        All trials by number; that of `number` with all evaluations so far.
    number : int
    """
    sign = -1.0 if section.objectives[0].direction == "maximize" else 1.0
    curves = {trial.number: {int(k): sign * value for k, value in trial.evaluations if k >= 1} for trial in trials}
    if section.pruner.name == "none" or not curves[number]:
        return False
    if not math.isfinite(curves[number][max(curves[number])]):
        return True
    if section.pruner.name == "median":
        finished = [curves[trial.number] for trial in trials if trial.state == FINISHED and trial.number != number]
        return _is_above_median(section.pruner, curves[number], finished)
    if section.pruner.name == WILCOXON:
        finished = {trial.number: curves[trial.number] for trial in trials if trial.state == FINISHED}
        return _is_worse_on_folds(section.pruner, curves[number], finished)
    longest = section.pruner.max_evaluations or _evaluations_of_first(trials)
    bracket = bracket_of(section, longest, number)
    others = [
        curve
        for other, curve in curves.items()
        if other != number and curve and bracket_of(section, longest, other) == bracket
    ]
    return _falls_at_rung(section.pruner, bracket, curves[number], others)


def _is_above_median(pruner: PrunerSection, mine: dict[int, float], finished: list[dict[int, float]]) -> bool:
    """Return whether the best value so far is worse than the median of the finished trials at this evaluation."""
    newest = max(mine)
    if len(finished) < max(1, pruner.startup_trials) or newest < pruner.min_evaluations:
        return False
    theirs = [curve[newest] for curve in finished if math.isfinite(curve.get(newest, math.nan))]
    return bool(theirs) and min(mine.values()) > statistics.median(theirs)


def _is_worse_on_folds(pruner: PrunerSection, mine: dict[int, float], finished: dict[int, dict[int, float]]) -> bool:
    """Return whether the signed-rank test finds the trial worse than the best finished one on the folds of both."""
    if not finished:
        return False
    best = min(finished.values(), key=lambda curve: statistics.fmean(curve.values()))
    folds = sorted(mine.keys() & best.keys())
    differences = [mine[fold] - best[fold] for fold in folds]
    if len(folds) < max(2, pruner.min_evaluations) or statistics.fmean(differences) <= 0:
        return False
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, alternative="greater", zero_method="zsplit").pvalue) < pruner.p_value


def _falls_at_rung(pruner: PrunerSection, bracket: int, mine: dict[int, float], others: list[dict[int, float]]) -> bool:
    """Return whether the trial is at a rung and not among the best 1 / reduction_factor of those that reached it."""
    newest = max(mine)
    if newest not in _rungs(pruner, bracket, newest):
        return False
    reached = sorted([mine[newest], *(curve[newest] for curve in others if newest in curve)])
    return mine[newest] > reached[max(len(reached) // pruner.reduction_factor, 1) - 1]


def _rungs(pruner: PrunerSection, bracket: int, last: int) -> list[int]:
    """Return the evaluations up to `last` at which trials of a bracket are compared."""
    rungs, rung = [], pruner.min_evaluations * pruner.reduction_factor**bracket
    while rung <= last:
        rungs.append(rung)
        rung *= pruner.reduction_factor
    return rungs


def bracket_of(section: StudySection, longest: int | None, number: int) -> int:
    """Return the bracket of a trial of ``hyperband``, where the longest trial has `longest` evaluations.

    It is 0 for ``halving``, and before it is known how long a trial is.

    Brackets whose first rung is early get more trials, so that all cost about the same. A hash of the names decides, so
    no trial needs to know of another.
    """
    pruner = section.pruner
    if pruner.name != "hyperband" or longest is None:
        return 0
    num_brackets = math.floor(math.log(longest / pruner.min_evaluations, pruner.reduction_factor) + 1e-9) + 1
    if num_brackets < 1:
        return 0
    sizes = [
        math.ceil(num_brackets * pruner.reduction_factor ** (num_brackets - 1 - bracket) / (num_brackets - bracket))
        for bracket in range(num_brackets)
    ]
    place = zlib.crc32(f"{section.name}_{number}".encode()) % sum(sizes)
    for bracket, size in enumerate(sizes):
        if place < size:
            return bracket
        place -= size
    return 0


def _evaluations_of_first(trials: Sequence[Trial]) -> int | None:
    """Return how many evaluations the first finished trial has."""
    return next(
        (int(trial.evaluations[-1][0]) for trial in trials if trial.state == FINISHED and trial.evaluations), None
    )
