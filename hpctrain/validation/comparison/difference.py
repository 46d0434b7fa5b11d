"""The difference of a metric between two models that judge the same rows. R rows, G groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpctrain.validation.comparison.losses import cohen_d, group_means, signed_rank, superiority
from hpctrain.validation.comparison.paired import Pairs, detectable, ends, group_sums, p_value, paired_draws
from hpctrain.validation.comparison.shares import mcnemar, share_interval, swap_test
from hpctrain.validation.intervals import CONFIDENCE, Groups
from hpctrain.validation.tasks.task import EDGE, HIGHER, SHARE, ZERO, Metric, Statistic, Task

DRAWS = 2000
BOOTSTRAP, MCNEMAR, SWAPS = "paired bootstrap", "McNemar", "swapped groups"
FEW_GROUPS = 20
"""With fewer groups than this, intervals and tests are rough."""


@dataclass(frozen=True)
class Difference:
    """A metric of two models, and what the second one changes.

    Parameters
    ----------
    first, second : float
        The metric of both.
    value, low, high : float
        Second minus first, with its interval. For a metric whose best value is 0, the difference of the distances
        from it.
    p : float
        Two-sided.
    test : str
        Name of the test.
    detectable : float
        Difference that would have been seen with a power of 80 %.
    num_rows, num_groups : int
    signed_rank : float
        p value of Wilcoxon's test of the rows' contributions; NaN for a metric that is no mean over rows.
    cohen_d : float
        Mean difference of the contributions divided by their standard deviation, or NaN.
    superiority : float
        How often the second model is better on a group of rows, or NaN.
    note : str
        What keeps the interval from being trusted; empty if nothing is known.
    """

    first: float
    second: float
    value: float
    low: float
    high: float
    p: float
    test: str
    detectable: float
    num_rows: int
    num_groups: int
    signed_rank: float = math.nan
    cohen_d: float = math.nan
    superiority: float = math.nan
    note: str = ""


def compare_tasks(
    first: Task,
    second: Task,
    names: Sequence[str],
    group: np.ndarray,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, Difference]:
    """Return the differences of metrics between two models.

    Parameters
    ----------
    first, second : Task
        The same label of both models, at the same R rows. Rows that only one of them can predict do not count.
    names : sequence of str
        Metrics.
    group : ndarray, shape (R,)
        What is independent: the object of each row, its cell of the sky, its plate.
    draws : int
    confidence : float
    seed : int
    """
    known = first.known & second.known
    rows = np.flatnonzero(known)
    groups = Groups(np.asarray(group)[rows], rows, np.ones(len(rows)))
    pairs: Pairs = {name: (first.statistic(name), second.statistic(name)) for name in names}
    drawn = paired_draws(pairs, groups, draws, seed)
    found = {}
    for name, pair in pairs.items():
        metric, weights = first.metric(name), known.astype(np.float64)
        scores = [float(each.scores(weights[None])[0]) for each in pair]
        made = _bootstrap(metric, scores, drawn[name], _counts(pair, known, groups), confidence)
        if pair[0].how == SHARE:
            made = _share(made, pair, groups, confidence, seed)
        found[name] = _with_effects(made, metric, pair, groups)
    return found


def _counts(pair: tuple[Statistic, Statistic], known: np.ndarray, groups: Groups) -> tuple[int, int]:
    """Return the numbers of rows and of groups that either metric depends on."""
    used = ((pair[0].used | pair[1].used) & known)[groups.rows]
    return int(used.sum()), len(np.unique(groups.of_row[used]))


def _bootstrap(
    metric: Metric, scores: list[float], drawn: np.ndarray, counts: tuple[int, int], confidence: float
) -> Difference:
    num_rows, num_groups = counts
    if metric.better == ZERO:
        # Closer to 0 on either side: both the difference and the sum must be of one sign.
        value, apart = abs(scores[1]) - abs(scores[0]), np.abs(drawn[1]) - np.abs(drawn[0])
        p = max(p_value(drawn[1] - drawn[0], num_groups), p_value(drawn[1] + drawn[0], num_groups))
    else:
        value, apart = scores[1] - scores[0], drawn[1] - drawn[0]
        p = p_value(apart, num_groups)
    low, high = ends(apart, num_groups, confidence)
    smallest = detectable(float(apart.std()) if len(apart) else math.nan, num_groups, confidence)
    return Difference(scores[0], scores[1], value, low, high, p, BOOTSTRAP, smallest, num_rows, num_groups)


def _share(
    made: Difference, pair: tuple[Statistic, Statistic], groups: Groups, confidence: float, seed: int
) -> Difference:
    """Return a difference of shares with the test that also holds for few discordant rows."""
    sums = [group_sums(each, groups) for each in pair]  # type: ignore[arg-type]
    if not np.array_equal(sums[0][:, 1], sums[1][:, 1]):
        return replace(made, p=swap_test(*sums, pair[0].of_sums, seed=seed), test=SWAPS)  # type: ignore[attr-defined]
    uses = sums[0][:, 1] > 0
    apart = np.rint(sums[1][uses, 0] - sums[0][uses, 0]).astype(np.int64)
    if not len(apart):
        return made
    one = [each.columns[groups.rows, 0] for each in pair]  # type: ignore[attr-defined]
    discordant = int(np.count_nonzero(one[0] != one[1]))
    p, is_exact = mcnemar(apart)
    low, high, error = share_interval(apart, discordant, sums[0][uses, 1], confidence)
    test = f"{MCNEMAR}, exact" if is_exact else MCNEMAR
    smallest = detectable(error, made.num_groups, confidence)
    return replace(made, low=low, high=high, p=p, test=test, detectable=smallest)


def _with_effects(made: Difference, metric: Metric, pair: tuple[Statistic, Statistic], groups: Groups) -> Difference:
    """Return a difference with what the contributions of the rows say, and a note if it cannot be trusted."""
    if pair[0].how == EDGE:
        made = replace(made, note="depends on a few rows at a limit: the interval is rough")
    elif made.num_groups < FEW_GROUPS:
        made = replace(made, note=f"only {made.num_groups} independent groups: interval and p are rough")
    values = [each.values for each in pair]
    if values[0] is None or values[1] is None or metric.better == ZERO:
        return made
    sign = -1.0 if metric.better == HIGHER else 1.0
    apart = group_means((values[1] - values[0])[groups.rows], groups.of_row)
    return replace(
        made,
        signed_rank=math.nan if pair[0].how == SHARE else signed_rank(apart),
        cohen_d=cohen_d(apart),
        superiority=superiority(sign * apart),
    )
