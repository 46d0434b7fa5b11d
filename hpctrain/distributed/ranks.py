"""How the ranks of a job share the work of a round: each does a part of it, and all of them get the results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist

from hpctrain.distributed.group import gather_json
from hpctrain.distributed.world import World


@dataclass(frozen=True)
class Ranks:
    """The ranks that do a round together; by default this process alone.

    Parameters
    ----------
    world : World
    """

    world: World = field(default_factory=World)

    def mine(self, count: int) -> range:
        """Return the numbers of the pieces of work, of `count`, that this rank does."""
        return range(self.world.rank, count, self.world.world_size)

    def share(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the arrays of all ranks, on every rank. All ranks must call this together.

        The arrays travel as bytes with a description in JSON, so that no rank unpickles data it receives.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            What this rank has made, of any shapes and numeric dtypes. No two ranks may use the same name.
        """
        if self.world.world_size == 1:
            return dict(arrays)
        own = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        layouts = gather_json(self.world, [(name, array.dtype.str, array.shape) for name, array in own.items()])
        found: dict[str, np.ndarray] = {}
        for rank, layout in enumerate(layouts):
            sizes = [np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64)) for _, dtype, shape in layout]
            content = np.empty(sum(sizes), dtype=np.uint8)
            if rank == self.world.rank and len(content):
                np.concatenate([array.reshape(-1).view(np.uint8) for array in own.values()], out=content)
            if len(content):
                dist.broadcast(torch.from_numpy(content), src=rank)
            ends = np.cumsum([0, *sizes])
            for (name, dtype, shape), begin, end in zip(layout, ends[:-1], ends[1:], strict=True):
                found[name] = content[begin:end].view(dtype).reshape(shape)
        return found
