"""Reliability of probabilities: how often happens what is predicted with a probability. n rows, B bins, D draws.

The bins hold equally many rows each, so each has the same noise; rows with equal probabilities stay together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from hpctrain.validation.intervals import Groups, wilson
from hpctrain.validation.tasks.sums import share

MOST_BINS = 20
FEWEST_IN_A_BIN = 50


@dataclass(frozen=True)
class Reliability:
    """Predicted probabilities of an event beside whether it happened, in bins.

    Parameters
    ----------
    probability : ndarray, shape (n,), float64
    happened : ndarray, shape (n,), float64
        0 or 1.
    target_id : ndarray, shape (n,), int64
        Object of each row.
    bin_of : ndarray, shape (n,), int64
        Bin of each row, 0 to B - 1; each bin has rows.
    """

    probability: np.ndarray
    happened: np.ndarray
    target_id: np.ndarray
    bin_of: np.ndarray

    @cached_property
    def num(self) -> np.ndarray:
        """Rows of each bin, (B,)."""
        return np.bincount(self.bin_of).astype(np.float64)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Mean probability of each bin, (B,)."""
        return np.bincount(self.bin_of, self.probability) / self.num

    @cached_property
    def observed(self) -> np.ndarray:
        """Share of the rows of each bin for which it happened, (B,)."""
        return np.bincount(self.bin_of, self.happened) / self.num

    def bands(self, confidence: float) -> np.ndarray:
        """Return Wilson's interval of the observed share of each bin, (B, 2); rows of an object count together."""
        found = []
        for number in range(len(self.num)):
            rows = self.bin_of == number
            statistic = share(self.happened[rows], np.ones(int(rows.sum()), dtype=bool))
            found.append(wilson(statistic, np.ones(int(rows.sum())), self.target_id[rows], confidence))
        return np.array(found).reshape(-1, 2)

    @property
    def error(self) -> float:
        """Expected calibration error: mean over rows of the distance of predicted from observed share of their bin.

        It is above 0 by chance even for true probabilities; see :attr:`error_by_chance` and :attr:`debiased_error`.

        References
        ----------
        .. [1] Naeini, Cooper & Hauskrecht 2015, AAAI, 2901.
        """
        return float(np.sum(self.num * np.abs(self.predicted - self.observed)) / self.num.sum())

    @property
    def error_by_chance(self) -> float:
        """Return the expected calibration error that true probabilities have on average with so many rows."""
        variance = np.bincount(self.bin_of, self.probability * (1 - self.probability)) / self.num**2
        return float(np.sum(self.num * np.sqrt(2 / np.pi * variance)) / self.num.sum())

    @property
    def debiased_error(self) -> float:
        """Expected calibration error less what the noise of the observed shares adds, at least 0.

        The noise of a bin is normal around its observed share; what it adds to the absolute distance has a closed form
        (the mean of a folded normal distribution).

        References
        ----------
        .. [1] Kumar, Liang & Ma 2019, NeurIPS, arXiv:1909.10155, section 5 (there by simulation).
        """
        apart = np.abs(self.predicted - self.observed)
        # the noise of a bin where all or none happened is not 0: one more of each, as Agresti and Coull add two
        smoothed = (self.observed * self.num + 1) / (self.num + 2)
        sigma = np.sqrt(smoothed * (1 - smoothed) / self.num)
        noisy = folded_normal_mean(apart, sigma)
        return max(0.0, float(np.sum(self.num * (2 * apart - noisy)) / self.num.sum()))

    def error_interval(self, confidence: float, draws: int, seed: int = 0) -> tuple[float, float]:
        """Return an interval of the expected calibration error, by drawing objects anew.

        It is around the debiased error. The side on which each bin is too sure is kept in all draws: else bins near
        the diagonal would hide a part of the scatter. The interval begins at 0 unless the observed error is above
        what true probabilities give by chance in this share of cases.

        References
        ----------
        .. [1] Bröcker & Smith 2007, Weather and Forecasting 22, 651: what true probabilities give by chance.
        """
        size = len(self.probability)
        side = np.sign(self.predicted - self.observed)[self.bin_of] * (self.probability - self.happened)
        groups = Groups(self.target_id, np.arange(size), np.ones(size))
        drawn = [weights @ side / weights.sum(axis=1) for weights in groups.draws(draws, seed, size)]
        shares = 0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence
        low, high = self.debiased_error - self.error + np.quantile(np.concatenate(drawn), shares)
        if self.error <= self._largest_by_chance(confidence, seed):
            low = 0.0
        return max(0.0, float(low)), max(0.0, float(high))

    def _largest_by_chance(self, confidence: float, seed: int, draws: int = 4000) -> float:
        """Return the error that true probabilities exceed with a probability of 1 - confidence.

        The mean of a bin is normal; rows of one object count as one.
        """
        repeated = len(self.probability) / len(np.unique(self.target_id))
        variance = np.bincount(self.bin_of, self.probability * (1 - self.probability)) * repeated
        noise = np.abs(np.random.default_rng(seed).normal(size=(draws, len(self.num)))) @ np.sqrt(variance)
        return float(np.quantile(noise, confidence)) / len(self.probability)

    def brier_parts(self) -> dict[str, float]:
        """Return the Brier score of the event and its parts.

        Returns
        -------
        dict of str to float
            ``brier`` = ``reliability`` - ``resolution`` + ``uncertainty`` + ``within``. The last one is what the
            differences of the probabilities within a bin add.

        References
        ----------
        .. [1] Murphy 1973, Journal of Applied Meteorology 12, 595.
        .. [2] Stephenson, Coelho & Jolliffe 2008, Weather and Forecasting 23, 752: the part within bins.
        """
        total, mean = self.num.sum(), float(self.happened.mean())
        apart, off = self.probability - self.predicted[self.bin_of], self.happened - self.observed[self.bin_of]
        return {
            "brier": float(np.mean((self.probability - self.happened) ** 2)),
            "reliability": float(np.sum(self.num * (self.predicted - self.observed) ** 2) / total),
            "resolution": float(np.sum(self.num * (self.observed - mean) ** 2) / total),
            "uncertainty": mean * (1 - mean),
            "within": float(np.mean(apart**2 - 2 * apart * off)),
        }


def reliability(
    probability: np.ndarray, happened: np.ndarray, target_id: np.ndarray, num_bins: int | None = None
) -> Reliability:
    """Return the reliability of probabilities in bins of equally many rows.

    Parameters
    ----------
    probability : ndarray, shape (n,)
        Finite, 0 to 1.
    happened : ndarray, shape (n,), bool
    target_id : ndarray, shape (n,), int64
    num_bins : int, optional
        Largest number of bins; by default 20, or fewer if a bin had fewer than 50 rows.
    """
    probability = np.asarray(probability, dtype=np.float64)
    if num_bins is None:
        num_bins = int(np.clip(len(probability) // FEWEST_IN_A_BIN, 1, MOST_BINS))
    return Reliability(
        probability, np.asarray(happened, dtype=np.float64), np.asarray(target_id), equal_bins(probability, num_bins)
    )


def equal_bins(values: np.ndarray, num_bins: int) -> np.ndarray:
    """Return the bin of each value (n,), int64, from 0; bins have equally many values as far as equal ones allow."""
    edges = (
        np.unique(np.quantile(values, np.linspace(0, 1, num_bins + 1)[1:-1], method="higher")) if len(values) else []
    )
    found = np.searchsorted(edges, values, side="right")
    return np.unique(found, return_inverse=True)[1].reshape(-1).astype(np.int64)


def folded_normal_mean(mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return the mean of the absolute value of a normal variable.

    References
    ----------
    .. [1] Leone, Nelson & Nottingham 1961, Technometrics 3, 543.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(sigma > 0, mean / np.where(sigma > 0, sigma, 1), np.inf)
    return sigma * np.sqrt(2 / np.pi) * np.exp(-0.5 * ratio**2) + mean * (1 - 2 * stats.norm.cdf(-ratio))
