"""An earlier run that did the same steps on the same machines: its speed tells how long a new one will take.

A run does the same steps if the texts of ``model``, and of the keys of ``train``, ``data`` and ``launch`` that decide
the time of a step, are those of the new profile. The profiles of runs are compared as texts: parsing hundreds of them
would take seconds, and ``dump_profile`` always writes the same text for the same values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hpctrain.files import read_text
from hpctrain.launch.lastwords import read_backwards
from hpctrain.metrics.events import DataFound, Started, read_event
from hpctrain.profile.load import dump_profile
from hpctrain.profile.schema import Profile
from hpctrain.records import Record
from hpctrain.rundir import RunDir, newest_runs

MOST_RUNS = 200
"""Largest number of runs whose profiles are looked at, the newest ones."""
_MOST_BYTES = 1 << 20
_LEAST_STEPS = 20
"""Fewest steps from which a rate is taken."""
_PART = re.compile(r"^([a-z_]+):(.*(?:\n[ -].*)*)", re.MULTILINE)
_KEY = re.compile(r"^  ([a-z_]+):(.*(?:\n  [ -].*)*)", re.MULTILINE)
_OF_TRAIN = (
    "batch_size", "accumulation", "global_batch", "precision", "compile", "gradient_checkpointing", "deterministic",
    "freeze", "ema_decay", "device",
)  # fmt: skip
_OF_LAUNCH = (
    "cluster", "site", "partition", "instance_type", "constraint", "nodes", "gpus_per_node", "ranks_per_node",
    "cpus_per_rank",
)  # fmt: skip
_NOT_OF_DATA = ("files", "split", "max_samples", "simulate", "stage", "cache")


@dataclass(frozen=True)
class Earlier:
    """An earlier run of the same shape.

    Parameters
    ----------
    run : RunDir
    step_s : float
        Mean time of a step, with its evaluations and checkpoints [s].
    start_s : float
        From the start of a process to its first step [s]; 0 if it is not recorded.
    num_train : int or None
        Number of samples in its epochs, if it had the same files.
    """

    run: RunDir
    step_s: float
    start_s: float
    num_train: int | None


def find_earlier(profile: Profile, runs: Iterable[RunDir] | None = None) -> Earlier | None:
    """Return the newest run that did the same steps on the same machines; None if there is none.

    A run with the same files comes before one with others, which may have samples of another size.

    Parameters
    ----------
    profile : Profile
        With absolute paths.
    runs : iterable of RunDir, optional
        Where to look, newest first; all runs in ``launch.runs_dir`` by default.
    """
    parts = _parts(dump_profile(profile))
    wanted, files = _shape(parts), _files(parts)
    best = None
    for run in islice(newest_runs(Path(profile.launch.runs_dir)) if runs is None else runs, MOST_RUNS):
        try:
            its = _parts(read_text(run.profile, _MOST_BYTES))
        except OSError:
            continue
        if _shape(its) != wanted:
            continue
        has_same_files = _files(its) == files
        if (has_same_files or best is None) and (found := _measured(run, has_same_files)) is not None:
            best = found
            if has_same_files:
                return best
    return best


def _parts(text: str) -> Mapping[str, str]:
    return dict(_PART.findall(text))


def _keys(part: str) -> Mapping[str, str]:
    return dict(_KEY.findall(part))


def _shape(parts: Mapping[str, str]) -> tuple[object, ...]:
    """Return everything that decides how long a step takes; the profiles of older versions may lack some of it."""
    train, launch, data = (_keys(parts.get(name, "")) for name in ("train", "launch", "data"))
    return (
        parts.get("model"),
        parts.get("platform"),
        [train.get(key) for key in _OF_TRAIN],
        [launch.get(key) for key in _OF_LAUNCH],
        {key: value for key, value in data.items() if key not in _NOT_OF_DATA},
    )


def _files(parts: Mapping[str, str]) -> object:
    data = _keys(parts.get("data", ""))
    return [data.get(key) for key in ("files", "split", "max_samples")]


def _measured(run: RunDir, has_same_files: bool) -> Earlier | None:
    """Return the speed of a run from its last records; None if it has done too few steps."""
    train: list[Record] = []
    num_train, start_s = None, 0.0
    for record in read_backwards(run.metrics, _MOST_BYTES):
        if record["kind"] == "train" and (not train or record.get("attempt") == train[0].get("attempt")):
            train.append(record)
        elif record["kind"] == "event" and record.get("event") == "first_step":
            start_s = start_s or record.get("seconds") or 0.0
        elif record["kind"] == "event" and isinstance(event := read_event(record), DataFound):
            num_train = num_train or event.num_train
        elif record["kind"] == "event" and record.get("event") == Started.name and train:
            break
    if len(train) < 2 or train[0]["step"] - train[-1]["step"] < _LEAST_STEPS:
        return None
    step_s = (train[0]["time"] - train[-1]["time"]) / (train[0]["step"] - train[-1]["step"])
    return Earlier(run, step_s, start_s, num_train if has_same_files else None) if step_s > 0 else None
