"""The families under contract: tiny profiles, models in this process, and whole runs in forks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from families import EXAMPLES, TINY, Tiny, profile_values
from forks import ForkServer

from hpctrain.launch.ranks import free_port, torchrun_variables
from hpctrain.rundir import RunDir

Train = Callable[..., list[int]]


class Home:
    """A folder for the runs of one family on one file of samples.

    Attributes
    ----------
    data : Path
        The file.
    peace : RunDir or None
        A finished run, once a test has asked for one.
    """

    def __init__(self, tiny: Tiny, folder: Path) -> None:
        self._tiny, self._folder = tiny, folder
        self.data = tiny.tiny_file(folder / "data.h5")
        self.peace: RunDir | None = None

    def make_run(self, name: str, **changes: Any) -> RunDir:
        """Make a run directory of the family, with changes of its profile."""
        run = RunDir.create(self._folder / "runs", "tiny", name)
        run.profile.write_text(yaml.safe_dump(profile_values(self._tiny, self.data, **changes)))
        return run


@pytest.fixture(params=list(TINY))
def tiny(request: pytest.FixtureRequest) -> Tiny:
    """Each family in turn."""
    return TINY[request.param]


@pytest.fixture(autouse=True)
def _examples_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """For processes that are started, as a user would set it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(EXAMPLES), os.environ.get("PYTHONPATH")])))


@pytest.fixture(scope="module")
def homes() -> dict[str, Home]:
    """Homes of the families that have one, by the name of the family's entry."""
    return {}


@pytest.fixture
def home(
    request: pytest.FixtureRequest, tiny: Tiny, homes: dict[str, Home], tmp_path_factory: pytest.TempPathFactory
) -> Home:
    """The home of the family, the same for all tests of a module."""
    name = request.node.callspec.params["tiny"]
    if name not in homes:
        homes[name] = Home(tiny, tmp_path_factory.mktemp(name))
    return homes[name]


@pytest.fixture
def train(fork_server: ForkServer) -> Train:
    """Return a function that runs an attempt to its end, or kills it at a step; it returns the exit codes."""

    def attempt(run: RunDir, world_size: int = 1, kill_at: int | None = None) -> list[int]:
        port = free_port()
        ranks = [
            fork_server.start(
                "hpctrain.train", [str(run.path)], {**os.environ, **torchrun_variables(rank, world_size, port)}
            )
            for rank in range(world_size)
        ]
        while kill_at is not None and all(rank.poll() is None for rank in ranks):
            if any(run.checkpoints.glob(f"step-{kill_at:08d}")):
                for rank in ranks:
                    rank.kill()
            time.sleep(0.005)
        codes = [rank.wait() for rank in ranks]
        attempt.stderr = "".join(rank.communicate()[1] for rank in ranks)
        return codes

    return attempt


@pytest.fixture
def peace(home: Home, train: Train) -> RunDir:
    """A run of the family that was left in peace and has finished; tests only look at it or add to it."""
    if home.peace is None:
        home.peace = home.make_run("peace")
        assert train(home.peace) == [0], train.stderr
    return home.peace
