"""A batch of light curves as the model sees it. N curves, P points of the longest one, F features.

One rule holds from file to loss: **a point whose band is -1 does not exist.** Padding has it, and so have points that
cannot be used or are hidden, so later code does not need to know the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from hpctrain.samples.protocols import PADDING_ROW

NO_BAND = -1
"""Band of a point that does not exist."""

_POINTS = ("time", "value", "error", "band", "phase")
_INPUTS = (*_POINTS, "scale", "features")


@dataclass(frozen=True)
class LightCurveBatch:
    """Some light curves; transforms return a new batch.

    Parameters
    ----------
    columns : mapping of str to Tensor
        ``time`` (N, P), float32 [day] since the first point; ``value`` and ``error`` (N, P), float32; ``band`` (N, P),
        int16; where each point has a phase, ``phase`` (N, P), float32, 0 to 1, NaN without a period; where there are
        features, ``features`` (N, F), float32, NaN where one is missing. After normalisation points that exist come
        first, and there is ``scale`` (N,), the
        divisor of the values; after cleaning ``num_bad`` (N,), int64, points that could not be used.
    row : Tensor, shape (N,), int64
        Row in the whole set; -1 is a padding row.
    target_id : Tensor, shape (N,), int64
        Identifier of the object; -1 in padding rows.
    max_points : int
        Largest number of points of a curve in any batch.
    labels : mapping of str to Tensor, shape (N,)
        What the family asked for, such as classes to learn; -1 or NaN where there is none.
    """

    columns: Mapping[str, Tensor]
    row: Tensor
    target_id: Tensor
    max_points: int
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

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

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> LightCurveBatch:
        """Return a batch in which these tensors are replaced."""
        return replace(self, columns={**self.columns, **tensors})

    def to(self, device: torch.device | str, non_blocking: bool = False) -> LightCurveBatch:
        """Return the batch on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> LightCurveBatch:
        """Return the batch in page-locked host memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def everything(self) -> list[Tensor]:
        """Return all tensors of the batch."""
        return [*self.columns.values(), self.row, self.target_id, *self.labels.values()]

    def _each(self, change: Any) -> LightCurveBatch:
        return replace(
            self,
            columns={name: change(tensor) for name, tensor in self.columns.items()},
            row=change(self.row),
            target_id=change(self.target_id),
            labels={name: change(tensor) for name, tensor in self.labels.items()},
        )
