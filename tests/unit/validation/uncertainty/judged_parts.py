"""Held-out predictions of a made-up model: classes that are too sure, values and densities that are right."""

from types import SimpleNamespace

import numpy as np

from hpctrain.rundir import RunDir
from hpctrain.validation.judged import Judged, tasks_of

NAMES = ("GALAXY", "QSO", "STAR")
SHARES = np.array([0.6, 0.1, 0.3])
CARD = {
    "family": "trees",
    "split": {"results": "validation"},
    "section": {
        "labels": [
            {"column": "class", "kind": "class", "name": "kind", "classes": list(NAMES)},
            {"column": "teff", "kind": "value", "unit": "K"},
        ]
    },
}


def made_up(path, size=2000, sharpness=1.8, seed=0):
    """Return a ``Judged`` of `size` objects; `sharpness` 1 gives true probabilities of the classes."""
    rng = np.random.default_rng(seed)
    # by Bayes' rule softmax(log shares + 1.5 x) is the true probability for x = 1.5 e_true + noise
    true = rng.choice(3, size=size, p=SHARES)
    logits = np.log(SHARES) + 1.5 * (1.5 * np.eye(3)[true] + rng.normal(size=(size, 3)))
    p = np.exp(sharpness * logits)
    p /= p.sum(axis=1, keepdims=True)
    texts = np.array(NAMES, dtype="S6")
    error = rng.uniform(20, 200, size=size)
    pull = rng.normal(size=size)
    columns = {
        "kind_TRUE": texts[true],
        "kind_PRED": texts[p.argmax(axis=1)],
        "kind_PROB": p.astype(np.float32),
        "teff_TRUE": 5000 + error * pull,
        "teff_PRED": np.full(size, 5000.0),
        "teff_ERR": error,
        "teff_PIT": np.array([0.5 * (1 + _erf(each)) for each in pull / 2**0.5]),
        "mag": 15 + error / 50,
    }
    ids = rng.integers(2**62, size=size)
    files = SimpleNamespace(names=list)
    return Judged(RunDir(path), "made up", CARD, ids, np.arange(size), columns, tasks_of(CARD, columns), files)


def _erf(value):
    from math import erf

    return erf(value)
