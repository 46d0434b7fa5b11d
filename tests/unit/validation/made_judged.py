"""Held-out predictions of no run, with errors that a test chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.rundir import RunDir
from hpctrain.validation.columns import RunColumns
from hpctrain.validation.judged import Judged, tasks_of

LABELS = [
    {"column": "zs", "name": "Z", "kind": "density", "spacing": "log1p"},
    {"column": "class", "name": "kind", "kind": "class", "classes": ["GALAXY", "QSO", "STAR"]},
]


def make_judged(path: Path, residual: np.ndarray, **columns: Any) -> Judged:
    """Return redshifts with these residuals, divided by 1 + z, and classes that are right for four of five.

    Parameters
    ----------
    path : Path
        Run directory, which need not exist.
    residual : ndarray, shape (R,)
    **columns
        More columns, shape (R,) each.
    """
    num = len(residual)
    rng = np.random.default_rng(0)
    true = rng.uniform(0.05, 1.0, num)
    kind = rng.integers(0, 3, num)
    guess = np.where(np.arange(num) % 5 == 0, (kind + 1) % 3, kind)
    names = np.array(LABELS[1]["classes"], dtype="S6")
    probability = np.full((num, 3), 0.1)
    probability[np.arange(num), guess] = 0.8
    table = {
        "Z_TRUE": true,
        "Z_PRED": true + residual * (1 + true),
        "Z_PIT": rng.uniform(size=num),
        "kind_TRUE": names[kind],
        "kind_PRED": names[guess],
        "kind_PROB": probability,
        **columns,
    }
    card = {"family": "trees", "section": {"labels": LABELS}, "split": {"validation": 0.2}}
    run = RunDir(path)
    row = np.arange(num)
    return Judged(run, "made", card, row + 1000, row, table, tasks_of(card, table), RunColumns(run))
