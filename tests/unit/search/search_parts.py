"""Sections of studies, and what trials that have ended leave behind."""

from __future__ import annotations

import json
from typing import Any

from hpctrain.search.folder import StudyDir
from hpctrain.search.section import StudySection

SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.latent_size": {"low": 2, "high": 6},
    "model.dropout": [0.0, 0.1],
}


def section_of(**changes: Any) -> StudySection:
    """Return a study of eight trials, with other values for some keys."""
    values = {
        "name": "searched",
        "base": "base.yaml",
        "trials": 8,
        "space": SPACE,
        "objectives": [{"metric": "loss", "direction": "minimize"}],
    }
    return StudySection.model_validate({**values, **changes})


def end_trial(study: StudyDir, number: int, state: str = "finished", **facts: Any) -> None:
    """Write what a trial that has ended leaves behind."""
    trial = study.trial(number)
    trial.path.mkdir(exist_ok=True)
    values = facts.pop("values", {"train.learning_rate": 1e-3, "model.latent_size": 2 + number % 5})
    trial.asked.write_text(json.dumps({"number": number, "values": values, "system": {}, "asked_at": 1.0}))
    record = {"number": number, "state": state, "values": values, "scores": [1.0 + number], "evaluations": [], **facts}
    trial.outcome.write_text(json.dumps(record))
