"""Abstention: how the error falls if the model only answers where it is sure. n rows, D draws."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hpctrain.validation.intervals import Groups

DRAWS = 200
SHARES = (0.5, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Abstention:
    """Losses in the order of confidence.

    Parameters
    ----------
    confidence : ndarray, shape (n,)
        Large where the model is sure; any scale.
    loss : ndarray, shape (n,)
        What a wrong answer costs: 1 for a wrong class, the size of the residual of a number.
    target_id : ndarray, shape (n,), int64
    """

    confidence: np.ndarray
    loss: np.ndarray
    target_id: np.ndarray
    _order: np.ndarray = field(init=False)
    _last: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        order = np.argsort(-self.confidence, kind="stable")
        ordered = self.confidence[order]
        last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # rows that are equally sure stay together
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "_last", last)

    def curve(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return coverage and risk: share of the rows that are answered, and their mean loss, for falling confidence.

        Parameters
        ----------
        weights : ndarray, shape (D, n), optional
            Weights of the rows; 1 by default, with D = 1.

        Returns
        -------
        coverage, risk : ndarray, shape (D, m)
            One place for each different confidence; NaN where no row has a weight.
        """
        weights = np.ones((1, len(self.loss))) if weights is None else weights
        weights = weights[:, self._order]
        size = np.cumsum(weights, axis=1)
        lost = np.cumsum(weights * self.loss[self._order], axis=1)[:, self._last]
        with np.errstate(divide="ignore", invalid="ignore"):
            return size[:, self._last] / size[:, -1:], lost / size[:, self._last]

    def area(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Return the area under risk against coverage (AURC), (D,): the mean risk over all coverages.

        Within rows of equal confidence the risk is that of all of them.

        References
        ----------
        .. [1] Geifman & El-Yaniv 2017, NeurIPS, arXiv:1705.08500.
        .. [2] Geifman, Uziel & El-Yaniv 2019, ICLR, arXiv:1805.08206: the area, and its excess over the best order.
        """
        coverage, risk = self.curve(weights)
        step = np.diff(coverage, axis=1, prepend=0.0)
        return np.where(step > 0, step * np.nan_to_num(risk), 0.0).sum(axis=1)

    def excess(self) -> float:
        """Return the area less that of the best possible order of the same losses; 0 if the confidence is perfect."""
        order = np.empty(len(self.loss))
        order[np.argsort(self.loss, kind="stable")] = -np.arange(len(self.loss))
        return float(self.area()[0] - Abstention(order, self.loss, self.target_id).area()[0])

    def area_interval(self, confidence: float, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
        """Return an interval of the area, by drawing objects anew."""
        size = len(self.loss)
        groups = Groups(self.target_id, np.arange(size), np.ones(size))
        found = np.concatenate([self.area(weights) for weights in groups.draws(draws, seed, size)])
        low, high = np.quantile(found, (0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence))
        return float(low), float(high)

    def risk_at(self, coverage: float) -> float:
        """Return the mean loss of the surest rows that are at least this share of all."""
        shares, risk = self.curve()
        return float(risk[0, min(np.searchsorted(shares[0], coverage * (1 - 1e-12)), shares.shape[1] - 1)])
