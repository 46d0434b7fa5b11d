"""Stands for the trainer where only the launcher is tested: steps of a tenth of a second, no torch.

``STUB`` in the environment says what befalls it, such as ``steps=40 kill=1:@5 exit=0:6@7``: rank 1 kills itself at
step 5 and rank 0 leaves with code 6 at step 7, both in the first attempt only.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

STEP_S = 0.1
environment = os.environ
script = dict(word.partition("=")[::2] for word in environment.get("STUB", "steps=10").split())
rank = int(environment.get("SLURM_PROCID", environment.get("RANK", "0")))
restart = int(environment.get("SLURM_RESTART_COUNT", environment.get("HPCTRAIN_RESTART_COUNT", "0")))
deadline = float(environment.get("HPCTRAIN_DEADLINE", "inf")) - float(script.get("lead", "0"))
run = Path(sys.argv[1])
stopped_by: list[int] = []
for number in (signal.SIGTERM, signal.SIGUSR2):
    signal.signal(number, lambda number, frame: stopped_by.append(number))


def save(step: int) -> None:
    if rank == 0:
        folder = run / f"checkpoints/step-{step:08d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "MANIFEST.json").write_text("{}")


def record(**fields: object) -> None:
    if rank == 0:
        with open(run / "metrics.jsonl", "a") as stream:
            stream.write(json.dumps({"time": time.time(), **fields}) + "\n")


checkpoints = sorted((run / "checkpoints").glob("step-*"))
step = int(checkpoints[-1].name[5:]) if checkpoints else 0
total = int(script.get("steps", "10"))
record(kind="event", event="started", step=step, total_steps=total, restart_count=restart)
print(f"rank {rank} of restart {restart} on {environment.get('SLURMD_NODENAME', 'here')}: step {step}", flush=True)
while step < total:
    for what in ("kill", "exit"):
        who, _, when = script.get(what, "").partition("@")
        culprit, _, value = who.rpartition(":")
        if when and step >= int(when) and rank == int(culprit or 0) and restart == 0:
            if what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            record(kind="event", event="failed", step=step, error="as told", exit_code=int(value))
            sys.exit(int(value))
    if stopped_by or time.time() > deadline:
        save(step)
        record(kind="event", event="stopped", step=step, cause="signal" if stopped_by else "deadline", exit_code=75)
        print(f"rank {rank}: stopped at step {step} by {stopped_by or 'deadline'}", flush=True)
        sys.exit(75)
    step += 1
    record(kind="train", step=step, loss=1 / step, samples_per_s=100.0)
    time.sleep(STEP_S)
save(step)
record(kind="event", event="finished", step=step)
