"""Compare two configurations whose scores come from several folds or repetitions. K pairs of scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from hpctrain.validation.resampled import corrected_mean


@dataclass(frozen=True)
class RepeatedDifference:
    """Mean difference of pairs of scores.

    Parameters
    ----------
    value, low, high : float
        Mean of the differences, with its interval.
    standard_error : float
        Corrected for training sets that share objects.
    p : float
        Two-sided.
    num_pairs : int
    """

    value: float
    low: float
    high: float
    standard_error: float
    p: float
    num_pairs: int


def corrected_resampled_t(differences: np.ndarray, test_share: float, confidence: float = 0.95) -> RepeatedDifference:
    """Return the mean of differences between two configurations over folds, with its interval and p value.

    The training sets of folds share most of their objects, so the differences are correlated, and the variance of
    their mean is larger than the common one by ``1 + K test / train``.

    Parameters
    ----------
    differences : ndarray, shape (K,)
        Second minus first score for each fold or repetition, at least two.
    test_share : float
        Share of the objects that judge: 1 / folds for cross-validation.
    confidence : float

    Raises
    ------
    ValueError
        There are fewer than two differences, or the share is not between 0 and 1.

    References
    ----------
    .. [1] Nadeau & Bengio 2003, Machine Learning 52, 239, sect. 3: the variance is multiplied by 1/K + test/train.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if len(differences) < 2:
        raise ValueError("the corrected resampled t test needs two differences or more")
    if not 0 < test_share < 1:
        raise ValueError(f"test_share is {test_share:g}; it must be between 0 and 1")
    mean = corrected_mean(differences.tolist(), test_share / (1 - test_share), confidence)
    error = mean.standard_error
    p = float(2 * stats.t.sf(abs(mean.value) / error, len(differences) - 1)) if error > 0 else float(mean.value == 0)
    return RepeatedDifference(mean.value, mean.low, mean.high, error, p, len(differences))
