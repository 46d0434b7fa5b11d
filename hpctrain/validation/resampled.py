"""The mean of a metric over folds or repeated splits, with a standard error that knows that they share training data.

References
----------
.. [1] Nadeau & Bengio 2003, Inference for the Generalization Error, Machine Learning 52, 239.
.. [2] Bouckaert & Frank 2004, PAKDD, LNCS 3056, 3: the same correction for repeated cross-validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Mean(NamedTuple):
    """A mean over J splits, with its corrected standard error and interval; NaN where one split alone says nothing."""

    value: float
    standard_error: float
    low: float
    high: float


def corrected_mean(values: Sequence[float], test_to_train: float, confidence: float = 0.95) -> Mean:
    """Return the mean of a metric over J splits of the same objects.

    The training sets of the splits overlap, so their values vary less than the generalisation error does. The variance
    of the mean is therefore taken as (1/J + test/train) times that of the values.

    Parameters
    ----------
    values : sequence of float
        The metric of each split; splits where it is NaN do not count.
    test_to_train : float
        Number of held-out objects of a split, divided by the number of those trained on.
    confidence : float
    """
    known = np.asarray([value for value in values if np.isfinite(value)], dtype=np.float64)
    if len(known) < 2:
        return Mean(float(known[0]) if len(known) else np.nan, np.nan, np.nan, np.nan)
    mean = float(known.mean())
    error = float(np.sqrt((1 / len(known) + test_to_train) * known.var(ddof=1)))
    half = float(stats.t.ppf(0.5 * (1 + confidence), len(known) - 1)) * error
    return Mean(mean, error, mean - half, mean + half)
