"""Studies in folders, whose trials tests fill with the files that real ones have."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from families import TINY, profile_values

from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.search.folder import StudyDir, StudyRecord, write_study
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


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., StudyDir]:
    """Return a function that writes the folder of a study that was submitted to this machine."""

    def make(**changes: Any) -> StudyDir:
        study = StudyDir(tmp_path / "runs/searched/20261126-120000-abcd")
        study.path.mkdir(parents=True)
        section = section_of(**changes)
        write_study(study, section)
        tiny = TINY["spectral_vae"]
        values = profile_values(tiny, tiny.tiny_file(tmp_path / "data.h5"))
        study.base.write_text(dump_profile(profile_of({**values, "name": "searched"})))
        study.write_record(StudyRecord("local", time.time(), section.trials))
        return study

    return make


def end_trial(study: StudyDir, number: int, state: str = "finished", **facts: Any) -> None:
    """Write what a trial that has ended leaves behind."""
    trial = study.trial(number)
    trial.path.mkdir(exist_ok=True)
    values = facts.pop("values", {"train.learning_rate": 1e-3, "model.latent_size": 2 + number % 5})
    trial.asked.write_text(json.dumps({"number": number, "values": values, "system": {}, "asked_at": 1.0}))
    record = {"number": number, "state": state, "values": values, "scores": [1.0 + number], "evaluations": [], **facts}
    trial.outcome.write_text(json.dumps(record))
