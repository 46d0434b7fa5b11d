"""Attempts of runs that are cut at a chosen moment, in forks of one process (``attempt_server.py``)."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path

import yaml
from small_network import SMALL_NETWORK

from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.rundir import RunDir

TOTAL_STEPS = 22
"""Three epochs of 232 spectra, 32 an update: epochs end within an update, the last update is not full."""

EVERYTHING = {
    "launch": {"gpus_per_node": 0, "ranks_per_node": 1, "cpus_per_rank": 1, "signal_lead_s": 5},
    "data": {
        "reader_threads": 1,
        "split": {"validation": 0.2},
        "augment": {"noise": 0.5, "mask_fraction": 0.2, "redshift_shift": 0.02},
    },
    "model": {**SMALL_NETWORK, "dropout": 0.2, "beta_warmup_steps": 10},
    "train": {
        "batch_size": 8,
        "accumulation": 4,
        "epochs": 3,
        "warmup_steps": 5,
        "log_every_steps": 1,
        "device": "cpu",
        "ema_decay": 0.9,
        "evaluate_every_steps": 5,
    },
    "checkpoint": {"every_steps": 4, "keep_last": 2},
    "track": {"tensorboard": False},
}
"""Dropout, noise, masks, redshift shifts, accumulation, moving averages; evaluations and checkpoints out of step."""

VARIANTS = {
    "fp32": {},
    "bf16": {"train": {"precision": "bf16"}},
    "early stopping": {
        "train": {"early_stopping": {"patience": 3, "min_delta": 1e3}, "evaluate_every_steps": 3, "ema_decay": None}
    },
    "no accumulation, evaluated each epoch": {
        "train": {"batch_size": 32, "accumulation": 1, "evaluate_every_steps": None, "gradient_checkpointing": True}
    },
}


def merged(base, change):
    """Return `base` with the keys of `change`."""
    return base | {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in change.items()
    }


class Attempts:
    """Runs attempts in forks of a fork, which has imported everything."""

    def __init__(self, folder, spectra_file, fork_server):
        self._folder, self._spectra_file = folder, spectra_file
        with tempfile.TemporaryDirectory(prefix="hf-", dir="/tmp") as short, socket.socket(socket.AF_UNIX) as door:
            path = str(Path(short) / "door")
            door.bind(path)
            door.listen(1)
            self._server = fork_server.start("attempt_server", [path], os.environ)
            self._channel, _ = door.accept()
        self._stream = self._channel.makefile("rw")
        self._straight = {}

    def new_run(self, variant="fp32", **changes):
        profile = merged(merged(EVERYTHING, VARIANTS[variant]), changes)
        profile = merged(profile, {"name": "exact", "data": {"files": [str(self._spectra_file)]}})
        run = RunDir.create(tempfile.mkdtemp(dir=self._folder), "exact")
        run.profile.write_text(yaml.safe_dump(profile))
        return run

    def attempt(self, run, world_size=1, **order):
        """Run one attempt and return the exit codes of its ranks."""
        order |= {"run": str(run.path), "world_size": world_size, "restart_count": len(run.read_attempts())}
        self._stream.write(json.dumps(order) + "\n")
        self._stream.flush()
        return json.loads(self._stream.readline())

    def cut(self, run, number, step, world_size=1, rank=None):
        """Run an attempt that gets a signal in the update that would be number `step` of the run."""
        cut = {"signal": int(number), "at_update": step - newest_step(run)}
        return self.attempt(run, world_size, cut=cut if rank is None else {**cut, "rank": rank})

    def straight(self, variant="fp32", world_size=1, **changes):
        """Return a run of this kind that nothing hit; each kind is run once."""
        key = json.dumps([variant, world_size, changes])
        if key not in self._straight:
            run = self.new_run(variant, **changes)
            assert self.attempt(run, world_size) == [0] * world_size, log_of(run)
            self._straight[key] = run
        return self._straight[key]

    def close(self):
        self._stream.close()
        self._channel.close()
        self._server.wait()


def newest_step(run):
    return list_checkpoints(run)[0][0] if list_checkpoints(run) else 0


def log_of(run):
    return "".join(path.read_text() for path in sorted(run.logs.glob("server-*.log")))
