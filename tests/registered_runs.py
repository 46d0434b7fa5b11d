"""Run directories as a finished run leaves them, with chosen weights and gates. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from hpctrain.registry.add import add_run
from hpctrain.registry.folder import Registry
from hpctrain.registry.version import Version
from hpctrain.rundir import RunDir, file_digest

GATE = {"metric": "Z.nmad", "asked": "Z.nmad below 0.02", "said": "0.018, 0.002 inside the limit", "passed": True}
FAILED = {**GATE, "said": "0.031, 0.011 beyond the limit", "passed": False}


def finished_run(runs: Path, weight: float = 1.0, gates: list[dict[str, Any]] | None = None) -> RunDir:
    """Return a run whose model has this weight; with `gates`, it was validated."""
    run = RunDir(runs / "photoz" / f"20261126-120000-{len(list(runs.glob('*/*'))):04x}")
    run.model.mkdir(parents=True)
    run.results.mkdir()
    weights = run.model / "model.safetensors"
    weights.write_bytes(save({"w": np.full(1000, weight, np.float32)}))
    card = {
        "format": "hpctrain-model",
        "version": 1,
        "family": "trees",
        "kind": "catalogue",
        "section": {},
        "facts": {},
    }
    (run.model / "model.json").write_text(json.dumps(card))
    run.profile.write_text("name: photoz\n")
    run.provenance.write_text(json.dumps({"user": "me", "data": []}))
    run.provenance.chmod(0o600)
    if gates is not None:
        validate(run, gates)
    return run


def validate(run: RunDir, gates: list[dict[str, Any]]) -> None:
    """Write what ``hpctrain validate`` writes about gates."""
    found = {
        "format": "hpctrain-validation",
        "model_sha256": file_digest(run.model / "model.safetensors"),
        "gates": gates,
    }
    (run.results / "validation.json").write_text(json.dumps(found))


def added(registry: Registry, runs: Path, weight: float, gates: list[dict[str, Any]] | None = None) -> Version:
    """Add a new run as a version of ``photoz``."""
    return add_run(finished_run(runs, weight, gates), "photoz", registry).version
