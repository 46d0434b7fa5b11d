"""What one update of the weights is made of: one value for schema, checks, trainer and launcher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class UpdateShape:
    """The samples of one update, and how the ranks share them.

    Parameters
    ----------
    global_batch : int
        Samples of an update, over all ranks.
    micro_batch : int or None
        Samples of one forward pass; None until the first attempt has found it (``train.batch_size: auto``).
    ranks : int
        Number of ranks.
    """

    global_batch: int
    micro_batch: int | None
    ranks: int

    @property
    def is_settled(self) -> bool:
        """Whether the size of a micro-batch is known."""
        return self.micro_batch is not None

    @property
    def accumulation(self) -> int:
        """Micro-batches of each rank; 1 while their size is not known."""
        if self.micro_batch is None:
            return 1
        return max(1, self.global_batch // (self.micro_batch * self.ranks))

    @property
    def unit(self) -> int:
        """Samples in one micro-batch of every rank, of which the global batch must be a multiple."""
        return self.ranks * (self.micro_batch or 1)

    @property
    def is_even(self) -> bool:
        """Whether the ranks can share the global batch evenly."""
        return self.global_batch % self.unit == 0

    def with_global_batch(self, global_batch: int) -> UpdateShape:
        """Return the shape with another global batch, which the micro-batches of all ranks must divide."""
        return replace(self, global_batch=global_batch)

    def with_micro_batch(self, micro_batch: int) -> UpdateShape:
        """Return the shape with another micro-batch and the same global batch."""
        return replace(self, micro_batch=micro_batch)

    def train_keys(self) -> dict[str, Any]:
        """Return the keys of ``train`` that give this shape."""
        if self.micro_batch is None:
            return {"batch_size": "auto", "global_batch": self.global_batch}
        return {"batch_size": self.micro_batch, "accumulation": self.accumulation, "global_batch": None}
