"""Saving while training goes on: the values of the boundary, one write at a time, nothing lost in silence."""

import os
import threading

import pytest
import torch

from hpctrain.checkpoint.store import read_checkpoint
from hpctrain.checkpoint.whole import checkpoint_path, newest_whole
from hpctrain.checkpoint.writer import CheckpointWriter
from hpctrain.errors import CheckpointError
from hpctrain.profile.sections.train import CheckpointSection
from hpctrain.rundir import RunDir, write_json


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path, "test", "run")


@pytest.fixture
def told():
    return []


@pytest.fixture
def writer(run, told):
    return CheckpointWriter(
        run, CheckpointSection(), 1, lambda event, step: told.append((event.name, step, threading.current_thread()))
    )


def test_values_are_those_of_the_boundary_although_training_goes_on_meanwhile(run, writer):
    weights = torch.zeros(1 << 20)
    for step in range(1, 6):
        weights.fill_(step)
        writer.save(step, {"model": {"w": weights}}, {}, None, wait=False)
        weights.fill_(-1.0)  # the next update, while the write is in flight
    writer.finish()
    for step in range(1, 6):
        assert read_checkpoint(checkpoint_path(run, step))[0]["model"]["w"].eq(step).all()


def test_one_write_is_in_flight_at_most_and_each_is_reported_once_from_the_training_thread(writer, told):
    for step in range(1, 9):
        writer.save(step, {"model": {"w": torch.ones(1 << 16)}}, {}, None, wait=False)
        writers = [thread for thread in threading.enumerate() if thread.name == "checkpoint-writer"]
        assert len(writers) <= 1
    writer.finish()
    writer.finish()
    assert [(name, step) for name, step, *_ in told] == [("checkpoint", step) for step in range(1, 9)]
    assert {thread for *_, thread in told} == {threading.main_thread()}


def test_the_last_save_waits_for_the_one_in_flight_and_is_on_disk_when_it_returns(run, writer):
    big = {"model": {"w": torch.ones(4 << 20)}}
    writer.save(1, big, {}, None, wait=False)
    writer.save(2, big, {}, None, wait=True)
    assert newest_whole(run) == (2, [])
    assert [thread for thread in threading.enumerate() if thread.name == "checkpoint-writer"] == []


def test_an_error_that_is_no_full_disk_reaches_the_training_loop(writer):
    writer.save(1, {"model": {"w": torch.ones(2, dtype=torch.complex64)}}, {}, None, wait=False)
    with pytest.raises(KeyError, match="complex64"):
        writer.finish()
    writer.finish()


def test_being_replaced_is_found_out_in_the_thread_and_raised_in_the_loop(run, writer):
    writer.save(1, {"model": {"w": torch.ones(2)}}, {}, None, wait=False)
    writer.finish()
    write_json(run.attempts / "0002.json", {"attempt": 2})
    writer.save(2, {"model": {"w": torch.ones(2)}}, {}, None, wait=False)
    with pytest.raises(CheckpointError, match="attempt 1 was replaced by attempt 2"):
        writer.save(3, {"model": {"w": torch.ones(2)}}, {}, None, wait=False)
    assert newest_whole(run) == (1, [])
    assert os.listdir(run.checkpoints) == ["step-00000001"]


def test_tensors_that_change_shape_or_appear_later_are_saved_as_they_are(run, writer):
    """AdamW has no moments before its first update."""
    writer.save(0, {"model": {"w": torch.ones(2)}, "optimizer": {}}, {}, None, wait=True)
    writer.save(1, {"model": {"w": torch.ones(2)}, "optimizer": {"m": torch.ones(3)}}, {}, None, wait=True)
    writer.save(2, {"model": {"w": torch.ones(5).half()}, "optimizer": {"m": torch.zeros(())}}, {}, None, wait=True)
    assert read_checkpoint(checkpoint_path(run, 0))[0]["optimizer"] == {}
    assert read_checkpoint(checkpoint_path(run, 2))[0]["model"]["w"].dtype == torch.float16
