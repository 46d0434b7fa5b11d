"""The models that are compared: single runs, or the folds of a cross-validation put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpctrain.validation.judged import Judged


@dataclass(frozen=True)
class Entrant:
    """A model, or the models of the folds of a cross-validation.

    Parameters
    ----------
    name : str
        What tables call it; no two of a comparison have the same.
    judged : Judged
        Its held-out rows.
    folds : ndarray, shape (R,), int64, or None
        For a cross-validation, the number of the run that held out each row; None for a single run.
    """

    name: str
    judged: Judged
    folds: np.ndarray | None = None

    @property
    def path(self) -> str:
        """Path of the run, or of the first run of a cross-validation."""
        return str(self.judged.run.path)

    def take(self, rows: np.ndarray) -> Entrant:
        """Return some of the rows, given by their numbers (n,)."""
        return Entrant(self.name, self.judged.take(rows), None if self.folds is None else self.folds[rows])


def entrant_names(judged: Sequence[Judged]) -> list[str]:
    """Return a name for each run: that of its profile, with the run id where two have the same."""
    names = [each.name for each in judged]
    return [
        name if names.count(name) == 1 else f"{name}/{each.run.run_id}"
        for name, each in zip(names, judged, strict=True)
    ]


def labels_of(judged: Judged) -> dict[str, Mapping[str, object]]:
    """Return the labels of the model by their titles, as its card has them."""
    labels = judged.card["section"].get("labels") or ()
    return {label.get("name") or str(label["column"]).rsplit("/", 1)[-1]: label for label in labels}
