"""How ranks share a round; the contract suite has runs of two ranks."""

from __future__ import annotations

import numpy as np

from hpctrain.distributed.ranks import Ranks
from hpctrain.distributed.world import World


def test_a_process_that_is_alone_does_all_pieces_and_keeps_its_arrays():
    arrays = {"a": np.arange(3)}
    assert list(Ranks().mine(3)) == [0, 1, 2]
    assert Ranks().share(arrays) == arrays


def test_pieces_of_work_are_dealt_out_once():
    dealt = [list(Ranks(World(rank=rank, world_size=3)).mine(7)) for rank in range(3)]
    assert sorted(piece for pieces in dealt for piece in pieces) == list(range(7))
