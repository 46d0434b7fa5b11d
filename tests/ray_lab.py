"""A real Ray cluster of nodes on this machine, in an environment of its own.

The environment holds Ray alone; hpctrain and what it needs come from the environment of the tests.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import pytest
from own_environment import REPOSITORY, own_environment

from hpctrain.launch.ranks import free_port

RAY = "ray[tune,client]>=2.53,<2.54"
"""From 2.54 on a node ends itself if its agent needs more than 15 s to start, as on a busy machine."""
WITH_JOBS = RAY.replace("[", "[default,")
"""Ray Jobs are part of the dashboard, which makes each node start slower."""
ATTEMPTS = 3


def ray_python() -> Path:
    """Return the Python of an environment with Ray; skip the test if it cannot be made."""
    return own_environment("ray", RAY)


def ray_jobs_python() -> Path:
    """Return the Python of an environment with Ray and its dashboard; skip the test if it cannot be made."""
    return own_environment("ray-jobs", WITH_JOBS)


class RayNodes:
    """Nodes with one CPU each on this machine; the first one is there from the start.

    Parameters
    ----------
    python : Path
        With Ray.
    with_jobs : bool
        Whether the head takes jobs of Ray Jobs; `python` has its dashboard then.
    """

    def __init__(self, python: Path, with_jobs: bool = False) -> None:
        self._python = python
        self._folder = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp")  # short, for the paths of sockets
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "RAY_TMPDIR": self._folder.name,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # else its processes wait for all others of a busy machine
        }
        self.log = Path(self._folder.name) / "nodes.log"
        self.client_port, self.jobs_port = free_port(), free_port() if with_jobs else None

    def __enter__(self) -> RayNodes:
        for _ in range(ATTEMPTS):
            with open(self.log, "ab") as log:
                self._process = subprocess.Popen(
                    [self._python, REPOSITORY / "tests/ray_nodes.py", str(self.client_port), str(self.jobs_port or "")],
                    env=self.environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    start_new_session=True,
                )
            if self._answer():
                return self
            self._end()
        text = self.log.read_text()[-500:]
        self._folder.cleanup()
        pytest.skip(f"Ray does not start on this machine: {text}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._folder.cleanup()

    def add(self) -> int:
        """Start another node; return the number of the process under which all runs there."""
        return int(self._ask("add"))

    def kill(self) -> None:
        """Kill the node that was added last, with all that Ray runs there."""
        self._ask("kill")

    def types(self, *words: str, cwd: Path) -> str:
        """Return what a command of hpctrain prints, run in the environment of Ray."""
        done = subprocess.run(
            [self._python, "-m", "hpctrain", *words], env=self.environment, cwd=cwd, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def asks_ray(self, *words: str) -> str:
        """Return what the command ``ray`` prints, as a user of the cluster sees it."""
        command = [self._python, "-m", "ray.scripts.scripts", *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _ask(self, word: str) -> str:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)
        if not (answer := self._answer()):
            pytest.skip(f"Ray did not do '{word}': {self.log.read_text()[-500:]}")
        return answer

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _end(self) -> None:
        self._process.communicate()
