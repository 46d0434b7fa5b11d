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


@pytest.fixture(params=list(TINY))
def tiny(request: pytest.FixtureRequest) -> Tiny:
    """Each family in turn."""
    return TINY[request.param]


@pytest.fixture(autouse=True)
def _examples_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """For processes that are started, as a user would set it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(EXAMPLES), os.environ.get("PYTHONPATH")])))


@pytest.fixture
def make_run(tmp_path: Path, tiny: Tiny) -> Callable[..., RunDir]:
    """Return a function that makes a run directory of the family, with changes of its profile."""
    data = tiny.tiny_file(tmp_path / "data.h5")

    def make(name: str = "run", **changes: Any) -> RunDir:
        run = RunDir.create(tmp_path / "runs", "tiny", name)
        run.profile.write_text(yaml.safe_dump(profile_values(tiny, data, **changes)))
        return run

    return make


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
