"""Metrics of two models on the same bootstrap draws of groups of rows. G groups, D draws, R rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats

from hpctrain.validation.intervals import Groups
from hpctrain.validation.tasks.sums import Sums
from hpctrain.validation.tasks.task import Statistic

POWER = 0.8
_VALUES_AT_ONCE = 1 << 22
Pairs = Mapping[str, tuple[Statistic, Statistic]]


def paired_draws(pairs: Pairs, groups: Groups, draws: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return pairs of metrics on the same draws.

    Parameters
    ----------
    pairs : mapping of str to (Statistic, Statistic)
        A metric of both models, by its name.
    groups : Groups
        The rows that count; all rows of a group are drawn together.
    draws : int
    seed : int

    Returns
    -------
    dict of str to ndarray, shape (2, n)
        At most D draws: those in which both metrics are defined.

    References
    ----------
    .. [1] Efron & Tibshirani 1993, An Introduction to the Bootstrap, Chapman & Hall, sect. 8.
    """
    num_rows = max((len(pair[0].used) for pair in pairs.values()), default=0)
    summed = {name: [group_sums(each, groups) for each in pair] for name, pair in pairs.items() if _are_sums(pair)}
    found: dict[str, list[np.ndarray]] = {name: [] for name in pairs}
    for counts in groups.counts(draws, seed, max(1, _VALUES_AT_ONCE // max(num_rows, groups.number, 1))):
        of_groups = counts.astype(np.float64)
        of_rows = groups.row_weights(counts, num_rows) if len(summed) < len(pairs) else None
        for name, pair in pairs.items():
            if name in summed:
                both = [each.of_sums(of_groups @ sums) for each, sums in zip(pair, summed[name], strict=True)]
            else:
                both = [each.scores(of_rows) for each in pair]
            found[name].append(np.stack(both))
    drawn = {name: np.concatenate(parts, axis=1) if parts else np.empty((2, 0)) for name, parts in found.items()}
    return {name: both[:, np.isfinite(both).all(axis=0)] for name, both in drawn.items()}


def _are_sums(pair: tuple[Statistic, Statistic]) -> bool:
    return all(isinstance(each, Sums) for each in pair)


def group_sums(statistic: Sums, groups: Groups) -> np.ndarray:
    """Return the sums of a statistic over the rows of each group, (G, K)."""
    columns = statistic.columns[groups.rows] * groups.weights[:, None]
    return np.stack([np.bincount(groups.of_row, column, groups.number) for column in columns.T], axis=1)


def ends(drawn: np.ndarray, num_groups: int, confidence: float) -> tuple[float, float]:
    """Return the interval of a number with draws (n,): their percentiles, a little further out for few groups.

    References
    ----------
    .. [1] Hesterberg 2015, The American Statistician 69, 371, sect. 5.3: the expanded percentile interval.
    """
    if not len(drawn) or num_groups < 2:
        return np.nan, np.nan
    t = stats.t.isf(0.5 * (1 - confidence), num_groups - 1)
    share = stats.norm.sf(np.sqrt(num_groups / (num_groups - 1)) * t)
    low, high = np.quantile(drawn, [share, 1 - share])
    return float(low), float(high)


def p_value(drawn: np.ndarray, num_groups: int) -> float:
    """Return the two-sided p value of a number with draws (n,): 1 minus the confidence at which :func:`ends` reach 0.

    Where no draw is beyond 0, the draws count as normal, so that a clear difference stays clear after a correction for
    many tests.
    """
    if not len(drawn) or num_groups < 2:
        return np.nan
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    share = (beyond + 1) / (len(drawn) + 1)
    spread = float(drawn.std())
    if beyond == 0 and spread > 0:
        share = min(share, float(stats.norm.sf(abs(float(drawn.mean())) / spread)))
    if share >= 0.5:
        return 1.0
    t = stats.norm.isf(share) * np.sqrt((num_groups - 1) / num_groups)
    return min(1.0, float(2 * stats.t.sf(t, num_groups - 1)))


def detectable(standard_error: float, num_groups: int, confidence: float) -> float:
    """Return the difference that a test at 1 - `confidence` finds with a chance of 80 %.

    References
    ----------
    .. [1] Cohen 1988, Statistical Power Analysis for the Behavioral Sciences, sect. 2.
    """
    if num_groups < 2:
        return float("nan")
    limit = stats.t.isf(0.5 * (1 - confidence), num_groups - 1) + stats.t.ppf(POWER, num_groups - 1)
    return float(limit * standard_error)
