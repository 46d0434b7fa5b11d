"""Decide which values are redshifts: one rule for ingest, loader, network and device. Does not import torch."""

from __future__ import annotations

import numpy as np

LOWEST_REDSHIFT = -0.03
"""Exclusive lower limit of a redshift. No star or galaxy approaches with more than 3 % of the speed of light, and
catalogues write -1 or -9999 for a missing redshift."""


def is_redshift(values: np.ndarray) -> np.ndarray:
    """Return which values are redshifts: finite and above `LOWEST_REDSHIFT`. The others mean that it is not known."""
    return np.isfinite(values) & (values > LOWEST_REDSHIFT)
