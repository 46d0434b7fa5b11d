"""A small data set, and runs of the real trainer in processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from attempts import Attempts, merged
from forks import Forked, ForkServer
from kinds.spectra import write_file
from mlflow_lab import MlflowServer
from small_network import SMALL_CONVOLUTIONS

from hpctrain.launch.ranks import free_port, torchrun_variables
from hpctrain.rundir import RunDir

NUM_PIXELS = 200

Begin = Callable[[Path, Mapping[str, str]], "subprocess.Popen[str] | Forked"]


@pytest.fixture(scope="session")
def spectra_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 smooth spectra of a two-parameter family with honest noise, some pixels masked."""
    path = tmp_path_factory.mktemp("spectra") / "spectra.h5"
    rng = np.random.default_rng(1)
    wavelength = np.linspace(3600.0, 9824.0, NUM_PIXELS)
    redshift = rng.uniform(0.1, 0.5, 300)
    slope, line = rng.uniform(-1, 1, 300), rng.uniform(0, 3, 300)
    rest = wavelength / (1 + redshift[:, None])
    flux = (rest / 5500.0) ** slope[:, None] + line[:, None] * np.exp(-0.5 * ((rest - 5007.0) / 40.0) ** 2)
    sigma = np.full_like(flux, 0.05)
    flux = 10.0 * (flux + sigma * rng.normal(size=flux.shape))
    ivar = (10.0 * sigma) ** -2.0
    ivar[rng.random(ivar.shape) < 0.02] = 0.0
    columns = {"ivar": ivar.astype(np.float32), "target_id": np.arange(1000, 1300), "wavelength": wavelength}
    return write_file(path, flux.astype(np.float32), redshift=redshift.astype(np.float32), **columns)


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A real MLflow server, on a real PostgreSQL where that is installed."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.close()


@pytest.fixture
def make_run(tmp_path: Path, spectra_file: Path) -> Callable[..., RunDir]:
    """Return a function that makes a run directory with a small profile, changed by keyword."""

    def make(name: str = "run", **changes: Any) -> RunDir:
        profile = {
            "name": "flow",
            "launch": {"gpus_per_node": 0, "ranks_per_node": 1, "cpus_per_rank": 1, "signal_lead_s": 5},
            "data": {"files": [str(spectra_file)], "reader_threads": 1, "split": {"validation": 0.2}},
            "model": SMALL_CONVOLUTIONS,
            "train": {
                "batch_size": 16,
                "accumulation": 2,
                "epochs": 4,
                "warmup_steps": 5,
                "log_every_steps": 1,
                "device": "cpu",
            },
            "checkpoint": {"every_steps": 5},
            "track": {"tensorboard": False},
        }
        run = RunDir.create(tmp_path, "flow", name)
        run.profile.write_text(yaml.safe_dump(merged(profile, changes)))
        return run

    return make


class Ranks:
    """The ranks of one attempt; `begin` starts one with its run directory and the variables that torchrun sets."""

    def __init__(self, begin: Begin, run: RunDir, world_size: int, **environment: str) -> None:
        port = free_port()
        self.run = run
        self.processes = [
            begin(run.path, {**os.environ, **torchrun_variables(rank, world_size, port), **environment})
            for rank in range(world_size)
        ]

    def wait(self, timeout_s: float = 600) -> list[int]:
        """Wait for all ranks and return their exit codes."""
        outputs = [process.communicate(timeout=timeout_s) for process in self.processes]
        self.stdout = "".join(out for out, _ in outputs)
        self.stderr = "".join(err for _, err in outputs)
        return [process.returncode for process in self.processes]

    def wait_for_step(self, step: int, timeout_s: float = 600) -> None:
        """Return when a training record of at least `step` is on disk."""
        deadline = time.monotonic() + timeout_s
        while max((record["step"] for record in self.run.read_metrics("train")), default=0) < step:
            assert time.monotonic() < deadline, "no such step in time"
            assert self.processes[0].poll() is None, self.processes[0].communicate()
            time.sleep(0.02)

    def signal(self, number: int, ranks: list[int] | None = None) -> None:
        for rank in ranks if ranks is not None else range(len(self.processes)):
            self.processes[rank].send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()


def begin_process(run: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start one rank by its command line, as torchrun does."""
    command = [sys.executable, "-m", "hpctrain.train", str(run)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def starter(begin: Begin) -> Iterator[Callable[..., Ranks]]:
    """Yield a function that starts the ranks of an attempt; none survives the test."""
    started: list[Ranks] = []

    def start(run: RunDir, world_size: int = 1, **environment: str) -> Ranks:
        started.append(Ranks(begin, run, world_size, **environment))
        return started[-1]

    yield start
    for ranks in started:
        for process in ranks.processes:
            if process.poll() is None:
                process.kill()
                process.communicate()


@pytest.fixture(scope="session")
def attempts(
    spectra_file: Path, fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attempts]:
    """Runs whose attempts are cut at a chosen update; see `Attempts`."""
    made = Attempts(tmp_path_factory.mktemp("attempts"), spectra_file, fork_server)
    yield made
    made.close()


@pytest.fixture
def start(fork_server: ForkServer) -> Iterator[Callable[..., Ranks]]:
    """Return a function that starts the ranks of an attempt, as forks of a process that has imported torch."""

    def begin(run: Path, environment: Mapping[str, str]) -> Forked:
        return fork_server.start("hpctrain.train", [str(run)], environment)

    yield from starter(begin)


@pytest.fixture(scope="session")
def hpctrain(fork_server: ForkServer) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a command of ``hpctrain`` in a folder, as a fork of a process with its imports."""

    def run(*words: Any, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        process = fork_server.start("hpctrain", [str(word) for word in words], os.environ, cwd)
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(words, process.wait(), stdout, stderr)

    return run


@pytest.fixture
def start_command() -> Iterator[Callable[..., Ranks]]:
    """Return a function that starts the ranks of an attempt by the command line."""
    yield from starter(begin_process)
