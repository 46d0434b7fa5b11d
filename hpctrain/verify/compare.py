"""Compare two finished runs bit by bit: the model, every logged number, the last checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctrain.checkpoint.whole import newest_whole
from hpctrain.rundir import RunDir, file_digest

CLOCK_FIELDS = frozenset(
    {"time", "attempt", "seconds", "samples_per_s", "memory_gib", "data_wait_share", "exchange_share"}
    | {"peer_wait_share", "slowest_rank", "slowest_data_wait_share"}
)
"""Fields of a record that describe the machine and the attempt, not the training."""

_ABSENT = "absent"
_LISTED = 6


@dataclass(frozen=True)
class Part:
    """The comparison of one part of the results.

    Parameters
    ----------
    name : str
        Name of the part.
    straight, cut : str
        Digest or value of the part in each run.
    differences : list of str
        The differences in detail, if they have names.
    """

    name: str
    straight: str
    cut: str
    differences: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether the part is the same in both runs."""
        return self.straight == self.cut and not self.differences


def compare(straight: RunDir, cut: RunDir) -> list[Part]:
    """Compare all results of two finished runs.

    Returns
    -------
    list of Part
        One part each for the model, the files of the last checkpoint (weights, moments, averages, loss scale), its
        progress, every number logged in training and validation, the spectra seen, and steps recorded twice.
    """
    model = _file("model.safetensors", straight.model / "model.safetensors", cut.model / "model.safetensors")
    return [model, *_checkpoints(straight, cut), *_records(straight, cut)]


def _file(name: str, straight: Path, cut: Path) -> Part:
    digests = [file_digest(path) if path.exists() else _ABSENT for path in (straight, cut)]
    differences = []
    if digests[0] != digests[1] and _ABSENT not in digests:
        differences = _different_tensors(straight, cut)
    return Part(f"SHA-256 of `{name}`", *digests, differences)


def _different_tensors(straight: Path, cut: Path) -> list[str]:
    """Return the names of the tensors that differ in any bit or in shape, or that only one file contains."""
    from hpctrain.checkpoint.tensorfile import read_tensors

    found = [
        {name: (str(tensor.dtype), tuple(tensor.shape), tensor.numpy().tobytes()) for name, tensor in read.items()}
        for read in map(read_tensors, (straight, cut))
    ]
    return _different(*found)


def _checkpoints(straight: RunDir, cut: RunDir) -> list[Part]:
    steps = [newest_whole(run)[0] for run in (straight, cut)]
    step_texts = [str(step) if step is not None else _ABSENT for step in steps]
    parts = [Part("step of the last checkpoint", *step_texts)]
    if None in steps:
        return parts
    folders = [run.checkpoints / f"step-{step:08d}" for run, step in zip((straight, cut), steps, strict=True)]
    names = sorted({path.name for folder in folders for path in folder.glob("*.safetensors")})
    parts += [_file(f"{folders[0].name}/{name}", *(folder / name for folder in folders)) for name in names]
    states = [json.loads((folder / "state.json").read_text()) for folder in folders]
    kept = [{name: value for name, value in state.items() if name != "attempt"} for state in states]
    if len({state["progress"].get("evaluated_step") for state in kept}) > 1:
        kept = [{**state, "progress": _without_evaluations(state["progress"])} for state in kept]
    flat = [{f"{top}.{name}": value for top in kept_ for name, value in _items(kept_[top])} for kept_ in kept]
    counts = [f"{len(values)} values" for values in flat]
    return [*parts, Part("progress and data facts in its `state.json`", *counts, _different(*flat))]


def _without_evaluations(progress: dict[str, Any]) -> dict[str, Any]:
    """Return the progress without what the evaluation of the last step changes.

    A stop that comes between the last step and its evaluation saves before it, and a whole checkpoint is never
    replaced. The evaluations themselves are compared as records.
    """
    changed = ("evaluated_step", "best_step", "best_value", "evaluations_without_progress", "stopped_early")
    return {name: value for name, value in progress.items() if name not in changed}


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else [("", value)]


def _records(straight: RunDir, cut: RunDir) -> list[Part]:
    parts = []
    for kind, title in (("train", "training"), ("eval", "validation")):
        numbers = [_numbers(run, kind) for run in (straight, cut)]
        losses = [sum(name.endswith(" loss") for name in found) for found in numbers]
        texts = [f"{count} losses, {len(found)} numbers" for count, found in zip(losses, numbers, strict=True)]
        parts.append(Part(f"logged in {title}", *texts, _different(*numbers)))
    twins = [list(run.read_metrics("train")) for run in (straight, cut)]
    seen = [str(records[-1].get("samples_seen")) if records else _ABSENT for records in twins]
    twice = [sorted(_twice([record["step"] for record in records])) for records in twins]
    repeated = [f"step {step} is recorded twice" for step in sorted({*twice[0], *twice[1]})]
    return [
        *parts,
        Part("spectra seen, with repetition over epochs", *seen),
        Part("steps that are recorded twice", *(str(len(steps)) for steps in twice), repeated),
    ]


def _numbers(run: RunDir, kind: str) -> dict[str, Any]:
    """Return every value about the training itself that a run has logged, by step and name."""
    return {
        f"step {record['step']} {name}": value
        for record in run.read_metrics(kind)
        for name, value in record.items()
        if name not in CLOCK_FIELDS and name not in ("kind", "step")
    }


def _twice(steps: list[int]) -> set[int]:
    seen: set[int] = set()
    return {step for step in steps if step in seen or seen.add(step)}  # type: ignore[func-returns-value]


def _different(straight: dict[str, Any], cut: dict[str, Any]) -> list[str]:
    names = [*straight, *(name for name in cut if name not in straight)]
    return [name for name in names if straight.get(name, _ABSENT) != cut.get(name, _ABSENT)]


def listed(differences: list[str]) -> str:
    """Return a text with the first differences and the number of the others."""
    more = f" and {len(differences) - _LISTED} more" if len(differences) > _LISTED else ""
    return ", ".join(differences[:_LISTED]) + more
