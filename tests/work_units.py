"""How pytest-xdist shares the tests out among its processes: which tests stay together, and which come first.

The tests on a real Slurm share a cluster, so one process runs them; the faults have clusters of their own and go to
another process. Both wait for Slurm's clocks now and then, and others compute meanwhile. Long tests come before short
ones, so that all processes end at about the same time.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

FAULTS = "tests/slurm/test_faults_on_slurm.py"
"""It brings up clusters of its own; all others on Slurm share one."""

TOGETHER = ("tests/slurm/", "tests/unit/edge/", "tests/flow/test_tracking")
"""They share a cluster, a network that is exported once, and a server of MLflow."""

LONG_FIRST = (FAULTS, "tests/slurm/", "tests/contract/", "tests/flow/", "tests/repo/", "tests/unit/")


def num_processes() -> int:
    """Return how many processes keep the cores busy: one for each, and one more, because tests wait."""
    return len(os.sched_getaffinity(0)) + 1


def order_of(nodeid: str) -> int:
    """Return where the units of this test stand in the queue, for sorting."""
    return next((place for place, start in enumerate(LONG_FIRST) if nodeid.startswith(start)), len(LONG_FIRST))


def unit_of(nodeid: str) -> str:
    """Return the name of what one process runs as a whole: a file, or several whose tests share what is costly."""
    path = nodeid.partition("::")[0]
    return path if path == FAULTS else next((folder for folder in TOGETHER if path.startswith(folder)), path)


def make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a scheduler of pytest-xdist that hands out the units of `unit_of`, in the order they were collected."""
    from xdist.scheduler import LoadScopeScheduling

    class Units(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    config.option.loadscopereorder = False
    return Units(config, log)
