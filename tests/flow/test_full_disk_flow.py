"""Real runs on a full disk: they go on, or they exit with 5, and later they finish with the same bits."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys

import pytest

from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.rundir import RunDir

KIB = 1024


def fill(disk, free_bytes):
    """Take all room but so much, as another job on the same file system does."""
    path = disk / "other-job"
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 4096)
    with open(path, "r+b") as stream:
        stream.truncate(max(0, path.stat().st_size - free_bytes))


def copy_to(disk, reference):
    """Return a copy of a finished run whose last checkpoints and model are still to come."""
    run = RunDir(disk / "run")
    shutil.copytree(reference.path, run.path)
    shutil.rmtree(run.model)
    shutil.rmtree(run.results)
    return run


def events(run, name):
    return [record for record in run.read_metrics("event") if record["event"] == name]


def model_of(run):
    return (run.model / "model.safetensors").read_bytes()


def losses(run):
    return [(record["step"], record["loss"]) for record in run.read_metrics("train")]


@pytest.fixture(scope="module")
def _finished():
    return []


@pytest.fixture
def reference(_finished, make_run, start):
    """A finished run with all its checkpoints; it is trained once."""
    if not _finished:
        run = make_run("reference", checkpoint={"every_steps": 4, "keep_last": 20, "keep_best": False})
        assert start(run).wait() == [0]
        _finished.append(run)
    return _finished[0]


def test_room_for_one_checkpoint_beside_the_newest_is_enough_for_a_run_and_its_model(start, make_disk, reference):
    disk = make_disk(8 * KIB)
    run = copy_to(disk, reference)
    *later, (_, first) = list_checkpoints(run)
    for _, path in later:
        shutil.rmtree(path)
    size = sum(path.stat().st_size for path in first.iterdir())
    fill(disk, free_bytes=size + 128 * KIB)
    ranks = start(run)
    assert ranks.wait() == [0], ranks.stderr
    assert not events(run, "checkpoint_failed")
    assert len([event for event in events(run, "checkpoint") if "made_room" in event]) >= 3
    assert model_of(run) == model_of(reference)
    assert losses(run) == losses(reference)


def test_a_disk_that_is_full_when_the_model_is_written_exits_with_5_and_later_the_run_finishes_exactly(
    start, make_disk, reference
):
    """Also where the log of the rank cannot be written."""
    disk = make_disk(8 * KIB)
    run = copy_to(disk, reference)
    for _, path in list_checkpoints(run)[1:]:
        shutil.rmtree(path)
    fill(disk, free_bytes=40 * KIB)
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "hpctrain.train", str(run.path)]
        assert subprocess.run(command, stdout=full, stderr=full, check=False).returncode == 5

    ranks = start(run)
    assert ranks.wait() == [5], ranks.stderr
    assert "Traceback" not in ranks.stderr
    assert "the finished model and its results could not be written" in ranks.stderr
    assert "No space left on device" in ranks.stderr
    assert len(list_checkpoints(run)) == 1

    (disk / "other-job").unlink()
    assert start(run).wait() == [0]
    assert model_of(run) == model_of(reference)
