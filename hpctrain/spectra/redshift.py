"""Which redshift counts: one rule for ingest, loader, network and device. No torch."""

from __future__ import annotations

import numpy as np

LOWEST_REDSHIFT = -0.03
"""Exclusive. No star or galaxy approaches faster than 3 % of light; catalogues write -1 or -9999 for none."""


def is_redshift(values: np.ndarray) -> np.ndarray:
    """Return which values are redshifts: finite and above `LOWEST_REDSHIFT`; the others mean that none is known."""
    return np.isfinite(values) & (values > LOWEST_REDSHIFT)
