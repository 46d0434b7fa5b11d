"""Pixels whose flux or ivar cannot be used: count them in a batch, and describe them.

A pixel is bad where its flux is NaN or infinite although it has weight, or its ivar is negative, NaN or infinite. A
pixel with a mask bit, ivar 0 or padding is not bad: files mask pixels in this way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.batch import SpectraBatch
    from hpctrain.kinds.spectra.hdf5 import SpectraSet


def count_bad(batch: SpectraBatch) -> torch.Tensor:
    """Return three sums over a cleaned batch, shape (3,), float64, without waiting for the device.

    They count the bad pixels, which lost their weight; the spectra with such pixels; and the fully masked spectra.
    Padding rows do not count.
    """
    return torch.stack(
        [
            batch.num_bad.sum(),
            (batch.num_bad > 0).sum(),
            (~batch.has_weight & (batch.row != PADDING_ROW)).sum(),
        ]
    ).double()


def describe_bad(spectra: SpectraSet, rows: np.ndarray) -> list[str]:
    """Return a line for each of these rows of a set of spectra that has bad pixels."""
    batch = spectra.read(rows)
    flux, ivar = batch.flux.float().numpy(), batch.ivar.float().numpy()
    bad = (ivar != 0) & ~(np.isfinite(flux) & (ivar > 0) & (ivar < math.inf))
    lines = []
    for index in np.flatnonzero(bad.any(axis=1)):
        path, row = spectra.locate(int(rows[index]))
        kinds = {
            "flux NaN": np.isnan(flux[index]),
            "flux infinite": np.isinf(flux[index]),
            "ivar NaN": np.isnan(ivar[index]),
            "ivar infinite": np.isinf(ivar[index]),
            "ivar negative": (ivar[index] < 0) & np.isfinite(ivar[index]),
        }
        texts = []
        for name, where in kinds.items():
            pixels = np.flatnonzero(where & bad[index])
            if pixels.size:
                first = f"pixel {pixels[0]}" if pixels.size == 1 else f"{pixels.size} pixels, the first {pixels[0]}"
                texts.append(f"{name} in {first}")
        lines.append(f"{path}: row {row}, target_id {int(batch.target_id[index])}: {'; '.join(texts)}")
    return lines
