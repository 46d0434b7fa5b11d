"""One real run for all tests of the report."""

import fcntl

import pytest
from real_run import copy_run, make_real_run, submitted

from hpctrain.rundir import RunDir


@pytest.fixture(scope="session")
def real_run(tmp_path_factory, request):
    """The run of `make_real_run`, which tests only read; all processes of a session share it."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent  # that of the whole session
    with open(folder / "real-run.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (found := folder / "real-run.path").exists():
            (folder / "real-run").mkdir(exist_ok=True)
            fork_server = request.getfixturevalue("fork_server")
            found.write_text(str(make_real_run(folder / "real-run", fork_server).path))
    return RunDir(found.read_text())


@pytest.fixture
def finished(real_run, tmp_path):
    """A copy of it to change."""
    return copy_run(real_run, tmp_path)


@pytest.fixture
def run(real_run, tmp_path):
    """The same run, submitted, of which no attempt has begun."""
    return submitted(real_run, tmp_path)
