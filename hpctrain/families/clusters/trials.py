"""What the fits of all candidates have shown so far, and which of them is the best. C candidates, R resamples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hpctrain.families.clusters.section import BIC, STABILITY

NAMES = ("num_clusters", "noise", "bic", "silhouette", "agreement", "spread", "converged")
"""Numbers of a candidate: clusters and share of noise among the training objects, Bayesian information criterion, mean
silhouette, mean and standard deviation of the adjusted Rand index between resamples, whether the fit converged."""


class Trials:
    """A row of numbers for each candidate; NaN where there is none yet.

    Parameters
    ----------
    num : int
        C.
    chooses_by : str
    """

    def __init__(self, num: int, chooses_by: str) -> None:
        self.table = np.full((num, len(NAMES)), np.nan)
        self.chooses_by = chooses_by
        self.chosen = -1

    def note(self, candidate: int, **values: float) -> None:
        """Keep numbers of a candidate."""
        for name, value in values.items():
            self.table[candidate, NAMES.index(name)] = value

    def is_better(self, candidate: int) -> bool:
        """Return whether a candidate is better than the chosen one; the first one is better than none."""
        score = self._score(candidate)
        if self.chosen < 0 or self.chosen == candidate:
            return True
        before = self._score(self.chosen)
        return bool(score > before or (np.isnan(before) and not np.isnan(score)))

    def _score(self, candidate: int) -> float:
        if self.chooses_by == BIC:
            return -float(self.table[candidate, NAMES.index("bic")])
        return float(self.table[candidate, NAMES.index("agreement" if self.chooses_by == STABILITY else "silhouette")])

    def state(self) -> dict[str, np.ndarray]:
        """Return all as plain arrays."""
        return {"table": self.table, "chosen": np.array([self.chosen])}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Take the numbers of a state."""
        table = np.array(state["table"])
        if table.shape != self.table.shape:
            raise ValueError(f"the state has {len(table)} candidates, the profile {len(self.table)}")
        self.table, self.chosen = table, int(state["chosen"][0])
