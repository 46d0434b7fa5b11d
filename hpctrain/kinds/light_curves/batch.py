"""A batch of light curves as the model sees it. N curves, P points of the longest one, F features.

One rule holds from file to loss: **a point whose band is -1 does not exist.** Padding has it, and so have points that
cannot be used or are hidden, so later code does not need to know the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hpctrain.samples.arrays import ArrayBatch
from hpctrain.samples.protocols import PADDING_ROW

NO_BAND = -1
"""Band of a point that does not exist."""

_POINTS = ("time", "value", "error", "band", "phase")
_INPUTS = (*_POINTS, "scale", "features")


@dataclass(frozen=True)
class LightCurveBatch(ArrayBatch):
    """Some light curves; transforms return a new batch.

    Parameters
    ----------
    columns : mapping of str to Tensor
        ``time`` (N, P), float32 [day] since the first point; ``value`` and ``error`` (N, P), float32; ``band`` (N, P),
        int16; where each point has a phase, ``phase`` (N, P), float32, 0 to 1, NaN without a period; where there are
        features, ``features`` (N, F), float32, NaN where one is missing. After normalisation points that exist come
        first, and there is ``scale`` (N,), the
        divisor of the values; after cleaning ``num_bad`` (N,), int64, points that could not be used.
    row, target_id, labels
        As for :class:`~hpctrain.samples.arrays.ArrayBatch`.
    max_points : int
        Largest number of points of a curve in any batch.
    """

    max_points: int = 0

    @property
    def exists(self) -> Tensor:
        """Which points exist, shape (N, P), bool."""
        return self.columns["band"] >= 0

    @property
    def is_padding(self) -> Tensor:
        """Which rows are padding, shape (N,), bool."""
        return self.row == PADDING_ROW

    def tensors(self) -> dict[str, Tensor]:
        """Return what a network reads, as an exported network needs it.

        All curves have `max_points` points, and all tensors, the band too, are float32.
        """
        found = {}
        for name in _INPUTS:
            if name in self.columns:
                value = self.columns[name]
                if name in _POINTS and (missing := self.max_points - value.shape[1]) > 0:
                    fill = NO_BAND if name == "band" else 0
                    value = torch.nn.functional.pad(value, (0, missing), value=fill)
                found[name] = value.float()
        return found
