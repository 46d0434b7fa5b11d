"""Objectives that no evaluation has: numbers of the finished model, of its bundle, and of its training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpctrain.cost.hours import energy_kwh_of, gpu_hours_of
from hpctrain.records import Record
from hpctrain.rundir import RunDir, read_json

_MIB = 2**20


def _num_parameters(run: RunDir) -> float | None:
    starts = (record.get("num_parameters") for record in run.read_metrics("event") if record.get("event") == "started")
    return next((float(number) for number in starts if number is not None), None)


def weights_of(run: RunDir) -> Path:
    """Return the path of the weights of a finished run."""
    return run.model / "model.safetensors"


def _model_mib(run: RunDir) -> float | None:
    path = weights_of(run)
    return path.stat().st_size / _MIB if path.exists() else None


def _bundle(run: RunDir) -> Record:
    """Return the manifest of the bundle that the run has written at its end."""
    folders = sorted((run.path / "export").glob("*/bundle.json"))
    found = read_json(folders[0], {}) if folders else {}
    return found if isinstance(found, dict) else {}


def _bundle_mib(run: RunDir) -> float | None:
    files = _bundle(run).get("files")
    if not isinstance(files, Mapping):
        return None
    sizes = [facts["bytes"] for name, facts in files.items() if Path(name).suffix in (".onnx", ".data", ".engine")]
    return sum(sizes) / _MIB if sizes else None


def _of_one_sample(run: RunDir, name: str) -> float | None:
    latency: Any = _bundle(run).get("latency")
    measured = latency.get("measured") if isinstance(latency, dict) else None
    alone = [each for each in measured or [] if each.get("batch") == 1]
    return float(alone[0][name]) if alone and name in alone[0] else None


OF_MODEL: Mapping[str, Callable[[RunDir], float | None]] = {
    "num_parameters": _num_parameters,
    "model_mib": _model_mib,
    "gpu_hours": gpu_hours_of,
    "energy_kwh": energy_kwh_of,
    "bundle_mib": _bundle_mib,
    "latency_ms": lambda run: _of_one_sample(run, "p50_ms"),
    "joules_per_sample": lambda run: _of_one_sample(run, "joules_per_spectrum"),
}
"""How each of these objectives is read from a finished run."""

OF_BUNDLE = ("bundle_mib", "latency_ms", "joules_per_sample")
"""Those that need a bundle, which ``edge.export_at_end`` writes."""
