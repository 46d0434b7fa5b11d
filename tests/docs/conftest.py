"""The worlds of the pages: each is made once, by the first page that needs it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import worlds
from forks import ForkServer
from world import World


@pytest.fixture(scope="session")
def make_world(fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], World]:
    """Return a function that makes a new world of a name, or the one there is if pages share it."""
    shared: dict[str, World] = {}

    def make(name: str) -> World:
        build = getattr(worlds, name)
        if name not in shared:
            world = World(tmp_path_factory.mktemp(name), fork_server)
            build(world)
            world.keep()
            shared[name] = world
        found = shared[name] if name in worlds.SHARED else shared.pop(name)
        found.clear()
        return found

    return make
