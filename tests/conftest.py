"""What all tests share: a clean environment, a real Slurm, survey files and a small simulated file."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import processes
import pytest
import work_units
from forks import ForkServer
from leaking_variables import leaking
from slurm_cluster import PACKAGES, SlurmCluster, missing_commands

REPOSITORY = Path(__file__).resolve().parents[1]

_SHARED = pytest.StashKey[Path]()
_CACHE = pytest.StashKey[str]()
_CLUSTER = pytest.StashKey[SlurmCluster]()
_FAILED = pytest.StashKey[bool]()

hypothesis.settings.register_profile("hpctrain", deadline=None, derandomize=True)  # same cases on a slow, busy machine
hypothesis.settings.load_profile("hpctrain")


def pytest_configure(config: pytest.Config) -> None:
    """Clean the environment before test modules are imported: torch reads OMP_NUM_THREADS when it is."""
    # A shell ignores Ctrl-C in what it starts in the background, and every process started from there inherits that.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ[processes.MARK] = uuid.uuid4().hex
    shared = os.environ.get("HPCTRAIN_SHARED")
    config.stash[_SHARED] = Path(shared) if shared else REPOSITORY.parent / "shared"
    for name in leaking():
        del os.environ[name]
    os.environ["OMP_NUM_THREADS"] = "1"
    # Hundreds of processes import the package: compile it once.
    sys.dont_write_bytecode = os.environ.pop("PYTHONDONTWRITEBYTECODE", None) is None and sys.dont_write_bytecode
    os.environ["XDG_CACHE_HOME"] = config.stash[_CACHE] = tempfile.mkdtemp(prefix="hpctrain-cache-")
    # Matplotlib's list of fonts takes seconds to make; it holds nothing a test could depend on.
    os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / f"hpctrain-matplotlib-{os.getuid()}"))


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[_CACHE], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Answer ``-n auto``."""
    return work_units.num_processes()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out as `work_units` says, unless ``--dist`` asks for something else."""
    return work_units.make_scheduler(config, log) if config.getoption("dist") == "load" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Keep the garbage collector away while test modules import torch, and later from what they have imported."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put long tests first where several processes share the tests."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: work_units.order_of(item.nodeid))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what an earlier test may have left in the environment without monkeypatch."""
    for name in leaking():
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _nothing_left_running(request: pytest.FixtureRequest) -> Iterator[None]:
    """End what a test started and did not end, so that it neither slows the others down nor warns in one of them."""
    before = processes.children()
    yield
    processes.end(processes.children() - before)
    if request.node.stash.get(_FAILED, False):
        processes.end(processes.orphans())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def shared_data(pytestconfig: pytest.Config) -> Path:
    """Real survey files (``sdss_spec``, ``desi_coadd`` ...), beside the project or below $HPCTRAIN_SHARED."""
    path = pytestconfig.stash[_SHARED] / "data"
    if not path.is_dir():
        pytest.skip(f"no survey files in {path}; HPCTRAIN_SHARED names the directory that holds data/")
    return path


@pytest.fixture(scope="session")
def simulated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 simulated quasars and galaxies on 500 pixels, as ``hpctrain simulate`` writes them."""
    from hpctrain.kinds.spectra.section import SimulateSection
    from hpctrain.kinds.spectra.simulate import simulate

    path = tmp_path_factory.mktemp("simulated") / "spectra.h5"
    simulate(path, SimulateSection(num_spectra=400, num_pixels=500, snr_median=8.0))
    return path


@pytest.fixture(scope="session")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """A process that has imported torch and the package, and forks."""
    server = ForkServer(tmp_path_factory.mktemp("forks"))
    yield server
    server.close()


@pytest.fixture
def warm_python(fork_server: ForkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands that the package starts with its Python be forks of a process that has done the imports."""
    monkeypatch.setattr(sys, "executable", fork_server.python)


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Return a function that mounts a real file system of so many KiB, where this user may."""
    folder = tmp_path / "disk"

    def make(size_kib: int) -> Path:
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "hpctrain-test", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"cannot mount a small file system: {done.stderr.strip()} (needs root)")
        return folder

    yield make
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def tiny_disk(make_disk: Callable[[int], Path]) -> Path:
    """A file system of 64 KiB."""
    return make_disk(64)


@pytest.fixture(scope="session")
def slurm(request: pytest.FixtureRequest) -> Iterator[SlurmCluster]:
    """A real Slurm of four pretend nodes, brought up by the first test that asks for it."""
    missing = missing_commands()
    if missing:
        pytest.skip(f"Slurm is not installed ({', '.join(missing)}): apt-get install {PACKAGES}")
    cluster = SlurmCluster()
    request.session.stash[_CLUSTER] = cluster
    yield cluster
    del request.session.stash[_CLUSTER]
    cluster.close()


@pytest.fixture(scope="module", autouse=True)
def _no_jobs_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Cancel what the tests of a module left in the queue, so that no module waits for another's jobs."""
    yield
    cluster = request.session.stash.get(_CLUSTER, None)
    if cluster is not None:
        cluster.cancel_all()
