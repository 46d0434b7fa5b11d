"""Every system call of a save fails, or is the last one its process makes: what stood before stands, and all goes on.

strace injects the faults into the system calls of the real writer, at the first, the second, ... the last of each kind.
"""

import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hpctrain.checkpoint.whole import clear_leftovers, list_checkpoints, newest_whole
from hpctrain.checkpoint.writer import CheckpointWriter
from hpctrain.profile.sections.train import CheckpointSection
from hpctrain.rundir import RunDir

sys.path.insert(0, str(Path(__file__).parent))
from saver import FAULTY_STEP, NEXT_STEP, tensors

CALLS = ("openat", "mkdir", "write", "fsync", "rename", "unlinkat", "rmdir")
"""What a save makes that changes the disk or can run out of it."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"),
]


class Saver:
    """The process that forks a child per case, and strace on that child."""

    def __init__(self, folder):
        command = [sys.executable, str(Path(__file__).parent / "saver.py")]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        assert self._process.stdout.readline() == "imported\n"
        self._folder, self._count = folder, 0

    def run(self, *strace):
        """Do one case under strace; return its run directory, how the child ended, and strace's lines."""
        self._count += 1
        run = RunDir(self._folder / f"case-{self._count}")
        self._process.stdin.write(f"{run.path}\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        trace = self._folder / f"trace-{self._count}"
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", str(trace), *strace, "-p", str(child)], stderr=subprocess.DEVNULL
        )
        try:
            # For reading too: opening a pipe only for writing waits for a reader, who may have been killed.
            with open(os.open(run.path / "go", os.O_RDWR), "wb", buffering=0) as go:
                self._wait(lambda: f"TracerPid:\t{tracer.pid}\n" in status_of(child))
                go.write(b"1")
                self._wait(lambda: (run.path / "between").is_symlink() or has_ended(child))
                if has_ended(child):
                    tracer.kill()  # it would wait for the dead
                else:
                    tracer.terminate()  # the fault is over, the trainer goes on
                    tracer.wait()
                    go.write(b"2")
                status = int(self._process.stdout.readline())
        finally:
            tracer.kill()
            tracer.wait()
        return run, os.waitstatus_to_exitcode(status), trace.read_text()

    @staticmethod
    def _wait(is_so):
        deadline = time.monotonic() + 600
        while not is_so():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def status_of(pid):
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def has_ended(pid):
    text = status_of(pid)
    return "State:" not in text or "State:\tZ" in text


@pytest.fixture(scope="module")
def saver():
    """On a file system in memory where there is one: the faults are injected before the disk is asked."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        process = Saver(Path(folder))
        yield process
        process.close()


@pytest.fixture(scope="module")
def num_calls(saver):
    """How often an undisturbed save makes each call."""
    run, code, trace = saver.run("-e", f"trace={','.join(CALLS)}")
    assert code == 0, (run.path / "error").read_text()
    return collections.Counter(re.findall(r"^\d+ +(\w+)\(", trace, re.MULTILINE))


def check_what_stands(run):
    """Step 20 was whole before; whatever is newest now verifies, and only the damaged 30 may be passed over."""
    newest, rejected = newest_whole(run)
    assert newest in (20, FAULTY_STEP)
    assert [item.path.name for item in rejected] in ([], [f"step-{FAULTY_STEP:08d}"])
    return newest


def check_that_it_goes_on(run):
    """The next attempt clears what was left and saves."""
    clear_leftovers(run, attempt=1)
    told = []
    writer = CheckpointWriter(run, CheckpointSection(keep_last=2), 1, lambda event, step: told.append(event))
    writer.save(NEXT_STEP, tensors(), {}, None, wait=True)
    assert [event.name for event in told] == ["checkpoint"]
    assert newest_whole(run) == (NEXT_STEP, [])
    assert not list(run.checkpoints.glob(".*"))
    assert len(list_checkpoints(run)) == 2


@pytest.mark.parametrize("call", CALLS)
def test_a_writer_killed_at_a_call_leaves_a_whole_checkpoint_and_the_next_one_goes_on(saver, num_calls, call):
    assert num_calls[call], f"a save makes no {call}"
    for number in range(1, num_calls[call] + 1):
        run, code, trace = saver.run("-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}")
        assert code == -9, (call, number, trace)
        check_what_stands(run)
        check_that_it_goes_on(run)
        shutil.rmtree(run.path)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_call_that_fails_costs_that_checkpoint_at_most_and_never_the_run(saver, num_calls, call, error):
    for number in range(1, num_calls[call] + 1):
        run, code, trace = saver.run("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}")
        assert "(INJECTED)" in trace, (call, number)
        assert code == 0, (call, number, (run.path / "error").read_text())
        told = json.loads((run.path / "told.json").read_text())
        assert [event[0] for event in told if event[1] == NEXT_STEP] == ["checkpoint"]
        assert len([event for event in told if event[1] == FAULTY_STEP]) == 1, "said once, as done or as failed"
        assert newest_whole(run) == (NEXT_STEP, [])
        assert not list(run.checkpoints.glob(".*")), "what the failed save left was cleared by the next one"
        shutil.rmtree(run.path)
