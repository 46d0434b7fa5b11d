"""Scales on which a metric has a more symmetric distribution than on its own. No limits are passed on the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit


@dataclass(frozen=True)
class Scale:
    """A monotonic function, its inverse and its slope.

    Parameters
    ----------
    there, back : callable
        Take and return arrays of any shape.
    """

    there: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


IDENTITY = Scale(lambda x: x, lambda y: y)
LOG = Scale(np.log, np.exp)
"""For what is above 0, such as a scatter."""
LOG_OF_REST = Scale(lambda x: -np.log(1 - x), lambda y: 1 - np.exp(-y))
"""For what is below 1, such as R²."""
LOGIT = Scale(logit, expit)
"""For what is between 0 and 1."""
