"""A checkpoint is whole or not there, and only a whole one is ever believed."""

import os
import resource
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file

from hpctrain.checkpoint.retention import prune
from hpctrain.checkpoint.store import read_checkpoint, write_checkpoint
from hpctrain.checkpoint.tensorfile import write_tensors
from hpctrain.checkpoint.whole import (
    MANIFEST,
    checkpoint_path,
    clear_leftovers,
    list_checkpoints,
    newest_whole,
    set_aside,
    verify,
)
from hpctrain.checkpoint.writer import CheckpointWriter
from hpctrain.errors import CheckpointError
from hpctrain.profile.sections.train import CheckpointSection
from hpctrain.rundir import RunDir, write_json


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path, "test", "run")


def tensors(value=1.0):
    return {
        "model": {"weight": torch.full((3, 5), value), "bias": torch.arange(4.0)},
        "optimizer": {"step/weight": torch.tensor(7.0), "empty": torch.zeros(0), "half": torch.ones(3).half()},
    }


def save(run, step, value=1.0, attempt=1):
    return write_checkpoint(run, step, tensors(value), {"progress": {"step": step}}, attempt)


def test_what_is_written_is_read_back(run):
    size = save(run, 12)
    path = checkpoint_path(run, 12)
    found, state = read_checkpoint(path)
    assert verify(path) is None
    assert state["progress"] == {"step": 12}
    assert size == sum(file.stat().st_size for file in path.iterdir() if file.name != MANIFEST)
    for file, named in tensors().items():
        assert set(found[file]) == set(named)
        for name, tensor in named.items():
            assert torch.equal(found[file][name], tensor)
            assert found[file][name].dtype == tensor.dtype


def test_the_file_is_one_that_the_safetensors_library_reads(tmp_path):
    written = {"a": torch.randn(7, 3), "b": torch.randint(0, 9, (5,)), "c": torch.tensor(True)}
    write_tensors(tmp_path / "x.safetensors", written)
    read = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(read[name], written[name]) for name in written)


@pytest.mark.slow
def test_every_flipped_bit_of_every_file_is_noticed(run):
    """All bits of all bytes: header, padding, tensors, manifest and state; more than 10,000 of them."""
    write_checkpoint(run, 1, {**tensors(), "ema": {"weight": torch.randn(11, 13)}}, {}, attempt=1)
    path = checkpoint_path(run, 1)
    flips = 0
    for file in sorted(path.iterdir()):
        with open(file, "r+b", buffering=0) as stream:
            for index, byte in enumerate(file.read_bytes()):
                for bit in range(8):
                    os.pwrite(stream.fileno(), bytes([byte ^ 1 << bit]), index)
                    assert verify(path) is not None, (file.name, index, bit)
                    flips += 1
                os.pwrite(stream.fileno(), bytes([byte]), index)
    assert flips >= 10_000
    assert verify(path) is None


def test_every_other_value_of_any_byte_of_the_manifest_is_noticed(run):
    """Also those that mean the same to a JSON reader: a blank for a line break, a carriage return, a digit's escape."""
    save(run, 1)
    manifest = checkpoint_path(run, 1) / MANIFEST
    whole = manifest.read_bytes()
    with open(manifest, "r+b", buffering=0) as stream:
        for index, byte in enumerate(whole):
            for value in {*b" \t\r\n,0A\x00\xff", byte ^ 32} - {byte}:
                os.pwrite(stream.fileno(), bytes([value]), index)
                assert verify(manifest.parent) is not None, (index, value)
            os.pwrite(stream.fileno(), bytes([byte]), index)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", MANIFEST])
def test_a_missing_or_short_file_is_noticed(run, name):
    save(run, 1)
    file = checkpoint_path(run, 1) / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    assert verify(file.parent) is not None
    file.unlink()
    assert name in verify(file.parent)


def test_loading_walks_back_to_the_newest_whole_checkpoint_and_says_what_it_passed(run):
    for step in (10, 20, 30):
        save(run, step)
    (checkpoint_path(run, 30) / "state.json").unlink()
    (checkpoint_path(run, 20) / "model.safetensors").write_bytes(b"torn")
    step, rejected = newest_whole(run)
    assert step == 10
    assert [item.path.name for item in rejected] == ["step-00000030", "step-00000020"]
    assert "state.json is missing" in rejected[0].reason
    assert "bytes" in rejected[1].reason


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_reached_again(run):
    save(run, 5, value=1.0)
    (checkpoint_path(run, 5) / "model.safetensors").write_bytes(b"torn")
    save(run, 5, value=2.0)
    assert verify(checkpoint_path(run, 5)) is None
    assert read_checkpoint(checkpoint_path(run, 5))[0]["model"]["weight"][0, 0] == 2.0
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000005"]


def test_leftovers_of_a_killed_writer_are_cleared(run):
    save(run, 5)
    for name in (".step-00000006.0001.99", ".step-00000003.removed", ".step-00000006.0003.7"):
        (run.checkpoints / name).mkdir()
    cleared, stuck = clear_leftovers(run, attempt=2)
    assert [path.name for path in cleared] == [".step-00000003.removed", ".step-00000006.0001.99"]
    assert stuck == []
    assert (run.checkpoints / ".step-00000006.0003.7").exists(), "a newer attempt is writing it"
    assert list_checkpoints(run) == [(5, checkpoint_path(run, 5))]


def test_an_attempt_that_was_replaced_may_not_publish(run):
    for number in (1, 2):
        write_json(run.attempts / f"{number:04d}.json", {})
    with pytest.raises(CheckpointError, match="attempt 1 was replaced by attempt 2"):
        save(run, 5, attempt=1)
    assert list(run.checkpoints.iterdir()) == []
    save(run, 5, attempt=2)


def test_retention_keeps_the_newest_the_best_and_every_mth(run):
    for step in range(10, 110, 10):
        save(run, step)
    removed = [path.name for path in prune(run, keep_last=2, keep_every_steps=40, best_step=30)]
    assert [step for step, _ in list_checkpoints(run)] == [100, 90, 80, 40, 30]
    assert removed == [f"step-{step:08d}" for step in (10, 20, 50, 60, 70)]


def test_damaged_newer_checkpoints_do_not_make_retention_remove_the_whole_ones(run):
    """After a walk-back the steps of new checkpoints are lower than those of the damaged ones."""
    for step in (10, 20, 30):
        save(run, step)
    for step in (20, 30):
        (checkpoint_path(run, step) / "model.safetensors").write_bytes(b"torn")
    set_aside(newest_whole(run)[1])
    assert newest_whole(run) == (10, [])
    assert (run.checkpoints / "rejected-step-00000030").is_dir(), "kept for whoever wants to look"
    save(run, 15)
    assert [path.name for path in prune(run, keep_last=2, keep_every_steps=None, best_step=None)] == [
        "rejected-step-00000020",
        "rejected-step-00000030",
    ]
    assert [step for step, _ in list_checkpoints(run)] == [15, 10]


def test_a_checkpoint_that_somebody_has_renamed_is_not_believed(run):
    save(run, 10)
    checkpoint_path(run, 10).rename(checkpoint_path(run, 20))
    assert "renamed" in verify(checkpoint_path(run, 20))


def test_a_removal_that_fails_takes_nothing_from_the_checkpoint_that_stands(run):
    """As on NFS, where a file that somebody has open cannot go."""
    events = []
    writer = CheckpointWriter(run, CheckpointSection(keep_last=1), 1, lambda event, step: events.append(event))
    writer.save(1, tensors(), {}, None, wait=True)
    (run.checkpoints / ".step-00000001.removed").write_text("a file is where the directory would go")
    writer.save(2, tensors(), {}, None, wait=True)
    assert [event.name for event in events] == ["checkpoint", "checkpoint"]
    assert events[0].retention_error is None
    assert events[1].retention_error
    assert newest_whole(run) == (2, [])


def test_a_disk_that_is_full_costs_the_new_checkpoint_only(run):
    save(run, 5)
    events = []
    writer = CheckpointWriter(run, CheckpointSection(), 1, lambda event, step: events.append(event))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writes beyond the limit fail instead of killing
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        writer.save(6, tensors(), {}, None, wait=False)
        writer.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert [event.name for event in events] == ["checkpoint_failed"]
    assert newest_whole(run) == (5, [])
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000005"]


def test_a_save_in_a_thread_has_the_values_of_its_step_not_later_ones(run):
    live = tensors(1.0)
    writer = CheckpointWriter(run, CheckpointSection(), 1, lambda event, step: None)
    writer.save(1, live, {}, None, wait=False)
    live["model"]["weight"].fill_(9.0)
    writer.finish()
    assert read_checkpoint(checkpoint_path(run, 1))[0]["model"]["weight"].eq(1.0).all()


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_the_old_checkpoint_whole(run):
    """SIGKILL at random moments into an endless sequence of saves; whatever stands afterwards verifies."""
    program = textwrap.dedent(
        """
        import os, random, signal, sys, time, torch
        from hpctrain.checkpoint.retention import prune
        from hpctrain.checkpoint.store import write_checkpoint
        from hpctrain.checkpoint.whole import newest_whole
        from hpctrain.rundir import RunDir
        run = RunDir(sys.argv[1])
        draw = random.Random(1)
        tensors = {"model": {"w": torch.randn(1 << 18)}}
        newest = 0
        for trial in range(25):
            pipe = os.pipe()
            child = os.fork()
            if child == 0:
                for step in range(newest + 1, 10**6):
                    write_checkpoint(run, step, tensors, {}, 1)
                    list(prune(run, 2, None, None))
                    os.write(pipe[1], b"%08d" % step)
            done = int(os.read(pipe[0], 8)) if trial % 2 else newest
            time.sleep(draw.uniform(0, 0.06))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            newest, rejected = newest_whole(run)
            assert not rejected, rejected
            newest = newest or 0
            assert newest >= done, (newest, done)
        print(newest)
        """
    )
    done = subprocess.run([sys.executable, "-c", program, str(run.path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
