"""Saves of a real CheckpointWriter in forked processes, one per fault, so that torch is imported once for all.

    python saver.py < cases    a case a line: directory; answers `ready PID`, then, when told to go, does it

Each case: three checkpoints stand, the newest of them damaged; the child saves its step again and lets retention work.
It reports what the trainer would have been told, saves another step, and leaves.
"""

from __future__ import annotations

import json
import os
import sys

import torch

from hpctrain.checkpoint.store import write_checkpoint
from hpctrain.checkpoint.whole import checkpoint_path
from hpctrain.checkpoint.writer import CheckpointWriter
from hpctrain.profile.sections.train import CheckpointSection
from hpctrain.rundir import RunDir, write_json

FAULTY_STEP, NEXT_STEP = 30, 40


def tensors() -> dict[str, dict[str, torch.Tensor]]:
    return {"model": {"w": torch.arange(300.0)}, "optimizer": {"m": torch.ones(40, 3)}}


def prepare(path: str) -> RunDir:
    """Checkpoints 10 and 20 are whole, 30 is damaged, and something half written lies about."""
    run = RunDir(path)
    run.path.mkdir(parents=True)
    run.make_folders()
    write_json(run.attempts / "0001.json", {"attempt": 1})
    for step in (10, 20, FAULTY_STEP):
        write_checkpoint(run, step, tensors(), {}, 1)
    (checkpoint_path(run, FAULTY_STEP) / "model.safetensors").write_bytes(b"torn")
    (run.checkpoints / ".step-00000030.0001.7").mkdir()
    (run.checkpoints / ".step-00000030.0001.7" / "state.json").write_text("{")
    return run


def save(run: RunDir, go: int) -> None:
    told: list[tuple[str, int]] = []
    writer = CheckpointWriter(
        run, CheckpointSection(keep_last=2), 1, lambda event, step: told.append((event.name, step))
    )
    os.read(go, 1)
    writer.save(FAULTY_STEP, tensors(), {}, None, wait=False)
    writer.finish()
    os.symlink("anywhere", run.path / "between")  # a sign that is none of the calls under test
    os.read(go, 1)
    writer.save(NEXT_STEP, tensors(), {}, None, wait=True)
    (run.path / "told.json").write_text(json.dumps(told))


def main() -> None:
    torch.set_num_threads(1)
    print("imported", flush=True)
    for line in sys.stdin:
        run = prepare(line.strip())
        fifo = run.path / "go"
        os.mkfifo(fifo)
        go = os.open(fifo, os.O_RDWR)  # before the fork: strace may follow the child from its first call on
        child = os.fork()
        if child == 0:
            code = 1
            try:
                save(run, go)
                code = 0
            except BaseException as error:
                (run.path / "error").write_text(repr(error))
            finally:
                os._exit(code)
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)
        os.close(go)


if __name__ == "__main__":
    main()
