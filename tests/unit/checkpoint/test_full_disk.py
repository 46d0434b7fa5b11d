"""A disk that is full or read-only, for real: a small file system in memory, mounted for the test."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from hpctrain.checkpoint.lease import take_lease
from hpctrain.checkpoint.whole import list_checkpoints, newest_whole, set_aside
from hpctrain.checkpoint.writer import CheckpointWriter
from hpctrain.errors import CheckpointError
from hpctrain.profile.sections.train import CheckpointSection
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
    writer = CheckpointWriter(run, CheckpointSection(**section), 1, lambda event, step: told.append(event.at(step)))
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
    assert [event.name for event in told] == ["checkpoint", "checkpoint_failed", "checkpoint_failed"]
    assert "No space left on device" in told[1].error
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
    assert [event.name for event in told] == ["checkpoint"] * 12
    assert told[-1].made_room == ["step-00000008"]
    assert steps(run) == [9, 10, 11, 12]


@pytest.mark.parametrize("wait", [False, True], ids=["background", "last"])
def test_room_for_one_checkpoint_beside_the_newest_whole_one_is_enough_to_go_on(make_disk, wait):
    run = RunDir.create(make_disk(256), "test", "run")  # room for two, and five are to be kept
    writer, told = make_writer(run, keep_last=5)
    for step in range(1, 9):
        writer.save(step, tensors(step), {}, None, wait=wait)
        writer.finish()
        assert newest_whole(run) == (step, [])
    assert [event.name for event in told] == ["checkpoint"] * 8
    assert told[-1].made_room == ["step-00000006"]
    assert steps(run) == [7, 8]
    assert "the disk was full: removed step-00000006" in told[-1].describe()


def test_the_best_one_is_the_last_to_go_and_those_kept_for_good_the_last_but_one(run, disk):
    writer, told = make_writer(run, keep_last=1, keep_every_steps=4)
    for step in (4, 5, 6):
        writer.save(step, tensors(step), {}, best_step=5, wait=True)
    assert steps(run) == [4, 5, 6]
    for step, removed, left in ((7, [4], [5, 6, 7]), (9, [6], [5, 7, 9]), (10, [7], [5, 9, 10])):
        fill(disk)
        writer, told = make_writer(run, keep_last=3, keep_every_steps=4)
        writer.save(step, tensors(step), {}, 5, wait=False)
        writer.finish()
        assert told[-1].made_room == [f"step-{number:08d}" for number in removed]
        assert steps(run) == left
    for step in (11, 13, 14):
        fill(disk)
        writer.save(step, tensors(step), {}, 5, wait=True)
    assert steps(run) == [5, 13, 14]
    (disk / "other-job").unlink()
    shutil.rmtree(run.checkpoints / "step-00000013")
    fill(disk)
    writer.save(15, tensors(15), {}, 5, wait=True)
    assert told[-1].made_room == ["step-00000005"]
    assert steps(run) == [14, 15]


def test_a_rejected_checkpoint_goes_before_any_whole_one(run, disk):
    writer, told = make_writer(run, keep_last=3)
    for step in (1, 2):
        writer.save(step, tensors(step), {}, None, wait=True)
    (run.checkpoints / "step-00000002" / "state.json").write_text("{")
    set_aside(newest_whole(run)[1])
    fill(disk)
    writer.save(3, tensors(3), {}, None, wait=True)
    assert told[-1].made_room == ["rejected-step-00000002"]
    assert steps(run) == [1, 3]


def test_a_damaged_newest_checkpoint_does_not_cost_the_newest_whole_one(run, disk):
    writer, told = make_writer(run, keep_last=3)
    for step in (1, 2, 3):
        writer.save(step, tensors(step), {}, None, wait=True)
    (run.checkpoints / "step-00000003" / "state.json").write_text("{")
    fill(disk)
    writer.save(4, tensors(4), {}, None, wait=True)
    assert told[-1].made_room == ["step-00000003"]
    assert steps(run) == [1, 2, 4]


def test_where_only_one_checkpoint_fits_it_stays_and_the_run_goes_on(make_disk):
    run = RunDir.create(make_disk(160), "test", "run")
    writer, told = make_writer(run, keep_last=3)
    for step in (1, 2, 3):
        writer.save(step, tensors(step), {}, None, wait=False)
        writer.finish()
    assert [event.name for event in told] == ["checkpoint", "checkpoint_failed", "checkpoint_failed"]
    assert told[-1].error.endswith("the disk has no room for another checkpoint beside the newest one")
    assert newest_whole(run) == (1, [])
    with pytest.raises(CheckpointError, match="the older checkpoints are untouched; free some room") as error:
        writer.save(4, tensors(4), {}, None, wait=True)
    assert error.value.exit_code == 5
    assert newest_whole(run) == (1, [])


def test_nothing_is_removed_where_that_would_not_make_enough_room(run, disk):
    """The next checkpoint is larger than everything that may go; no older one is lost for nothing."""
    writer, told = make_writer(run, keep_last=3)
    writer.save(1, tensors(1), {}, None, wait=True)
    larger = {"model": {"w": torch.zeros(3 * CHECKPOINT_BYTES // 4)}}
    writer.save(2, larger, {}, None, wait=True)
    writer.save(3, larger, {}, None, wait=False)
    writer.finish()
    assert told[-1].name == "checkpoint_failed"
    assert steps(run) == [1, 2]


def test_other_errors_than_a_full_disk_never_make_room(run, disk):
    writer, told = make_writer(run, keep_last=3)
    for step in (1, 2):
        writer.save(step, tensors(step), {}, None, wait=True)
    with read_only(disk):
        writer.save(3, tensors(3), {}, None, wait=False)
        writer.finish()
    assert told[-1].made_room is None
    assert steps(run) == [1, 2]


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
    assert [event.name for event in told] == ["checkpoint", "checkpoint_failed", "checkpoint_failed"]
    writer.save(40, tensors(40), {}, None, wait=True)
    assert newest_whole(run) == (40, [])
