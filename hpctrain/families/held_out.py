"""The samples for which a finished model writes its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpctrain.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from hpctrain.samples.protocols import Batch, Samples


class NoResultsError(DataError):
    """A finished model has nothing to say about the held-out samples; the model itself is good."""


@dataclass(frozen=True)
class HeldOut:
    """Samples for which a finished model writes its results.

    Parameters
    ----------
    samples : Samples
    rows : ndarray, shape (n,), int64
    prepare : callable
        Cleans and normalises a batch on its device.
    batch_size : int
    device : torch.device
    tick : callable
        Is called with the number of samples done.
    """

    samples: Samples
    rows: np.ndarray
    prepare: Callable[[Batch], Batch]
    batch_size: int
    device: torch.device
    tick: Callable[[int], object]
