"""From the inputs of objects to the columns of a catalogue of clusters. N objects, F inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpctrain.families.clusters.assigned import NOISE
from hpctrain.families.clusters.space import Space
from hpctrain.kinds.catalogue.facts import INPUTS


class Assigner(nn.Module):
    """Assign objects to clusters.

    Parameters
    ----------
    space : Space
    partition : Centres, Mixture or DenseRegions
    ranks : ndarray, shape (n,), float64
        Quantiles of the oddity of the training objects.
    """

    def __init__(self, space: Space, partition: Any, ranks: np.ndarray) -> None:
        super().__init__()
        self.space, self.partition = space, partition
        self.register_buffer("ranks", torch.from_numpy(np.array(ranks, dtype=np.float64)))

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the columns for inputs (N, F); an object without a point has cluster -1 and otherwise NaN."""
        usable = self.space.usable(inputs)
        found = self.partition(self.space(inputs))
        rank = (found.oddity[:, None] > self.ranks).double().mean(dim=1)
        columns = {"DISTANCE": found.distance, "OUTLIER": rank}
        if found.probability is not None:
            columns["PROBABILITY"] = found.probability
        nan = torch.full_like(found.distance, torch.nan)
        columns = {name: torch.where(usable, values, nan).float() for name, values in columns.items()}
        return {"CLUSTER": torch.where(usable, found.cluster, torch.full_like(found.cluster, NOISE)), **columns}

    def predict(self, batch: Any) -> dict[str, Tensor]:
        """Return the columns of a prepared batch."""
        return self(batch[INPUTS])
