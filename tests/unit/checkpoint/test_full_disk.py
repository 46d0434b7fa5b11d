"""A disk that is full or read-only, for real: a small file system in memory, mounted for the test."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
import torch

from hpctrain.checkpoint.lease import take_lease
from hpctrain.checkpoint.store import list_checkpoints, newest_whole
from hpctrain.checkpoint.writer import CheckpointWriter
from hpctrain.errors import CheckpointError
from hpctrain.profile.schema import CheckpointSection
from hpctrain.rundir import RunDir

CHECKPOINT_BYTES = 100 * 1024


@pytest.fixture
def disk(make_disk):
    """A disk of 512 KiB: room for four checkpoints and the half of another one."""
    return make_disk(512)


@pytest.fixture
def run(disk):
    return RunDir.create(disk, "test", "run")


def tensors(step):
    return {"model": {"w": torch.full((CHECKPOINT_BYTES // 4,), float(step))}}


def make_writer(run, **section):
    told = []
    writer = CheckpointWriter(run, CheckpointSection(**section), 1, lambda *event: told.append(event))
    return writer, told


@contextlib.contextmanager
def read_only(disk):
    """Also root cannot write then, whatever the modes say."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def steps(run):
    return sorted(step for step, _ in list_checkpoints(run))


def fill(disk, free_bytes=0):
    """Take all room but so much, as another job on the same file system does."""
    with contextlib.suppress(OSError), open(Path(disk) / "other-job", "wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 4096)
    if free_bytes:
        os.truncate(Path(disk) / "other-job", max(0, os.path.getsize(Path(disk) / "other-job") - free_bytes))


def test_a_full_disk_costs_periodic_saves_and_nothing_that_stands(run, disk):
    writer, told = make_writer(run, keep_last=3)
    writer.save(10, tensors(10), {}, None, wait=False)
    writer.finish()
    fill(disk, free_bytes=CHECKPOINT_BYTES // 2)
    for step in (20, 30):
        writer.save(step, tensors(step), {}, None, wait=False)
        writer.finish()
    assert [event[0] for event in told] == ["checkpoint", "checkpoint_failed", "checkpoint_failed"]
    assert "No space left on device" in told[1][2]["error"]
    assert newest_whole(run) == (10, [])
    (disk / "other-job").unlink()
    writer.save(40, tensors(40), {}, None, wait=True)
    assert newest_whole(run) == (40, [])
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == ["step-00000010", "step-00000040"]


def test_the_last_save_on_a_full_disk_is_a_clear_error_with_exit_code_5(run, disk):
    writer, _ = make_writer(run)
    writer.save(10, tensors(10), {}, None, wait=True)
    fill(disk)
    with pytest.raises(CheckpointError, match=r"step 20 could not be saved: .*No space left on device") as error:
        writer.save(20, tensors(20), {}, None, wait=True)
    assert error.value.exit_code == 5
    assert "start the run again" in str(error.value)
    assert newest_whole(run) == (10, [])


def test_retention_that_fills_the_disk_by_itself_makes_room_and_the_run_goes_on_saving(run):
    """Four fit and five are to be kept: without making room no later one could ever be written."""
    writer, told = make_writer(run, keep_last=4)
    for step in range(1, 13):
        writer.save(step, tensors(step), {}, None, wait=False)
        writer.finish()
        assert newest_whole(run) == (step, [])
    assert [event[0] for event in told] == ["checkpoint"] * 12
    assert told[-1][2]["made_room"] == ["step-00000008"]
    assert steps(run) == [9, 10, 11, 12]


def test_room_is_made_only_of_what_retention_would_remove_anyway(run, disk):
    """Never the best, never every m-th, and never the only one that stands."""
    writer, told = make_writer(run, keep_last=2, keep_every_steps=4)
    for step in (4, 5, 6):
        writer.save(step, tensors(step), {}, best_step=5, wait=True)
    assert steps(run) == [4, 5, 6]
    fill(disk)
    writer.save(7, tensors(7), {}, 5, wait=False)
    writer.finish()
    assert told[-1][0] == "checkpoint_failed"
    assert steps(run) == [4, 5, 6]

    writer, told = make_writer(run, keep_last=1)
    writer.save(8, tensors(8), {}, None, wait=False)
    writer.finish()
    assert told[-1][0] == "checkpoint_failed"
    assert newest_whole(run) == (6, [])


def test_a_read_only_directory_costs_saves_and_refuses_a_new_attempt_in_one_line(run, disk):
    writer, told = make_writer(run)
    writer.save(10, tensors(10), {}, None, wait=True)
    with read_only(disk):
        writer.save(20, tensors(20), {}, None, wait=False)
        writer.finish()
        with pytest.raises(CheckpointError, match="Read-only file system"):
            writer.save(30, tensors(30), {}, None, wait=True)
        with pytest.raises(CheckpointError, match="cannot be written: Read-only file system"):
            take_lease(run, {})
        assert newest_whole(run) == (10, [])
    assert [event[0] for event in told] == ["checkpoint", "checkpoint_failed", "checkpoint_failed"]
    writer.save(40, tensors(40), {}, None, wait=True)
    assert newest_whole(run) == (40, [])
