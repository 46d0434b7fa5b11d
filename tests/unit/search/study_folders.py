"""Folders of studies with the files that trials leave behind, for tests of what reads them."""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path
from typing import Any

from hpctrain.rundir import write_atomic
from hpctrain.search.folder import StudyDir, StudyRecord, write_study
from hpctrain.search.section import StudySection

CONDITIONAL = {
    "train.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True},
    "train.batch_size": [16, 32, 64],
    "train.weight_decay": {"low": 0.0, "high": 0.1},
    "model.family": ["trees", "clusters"],
    "model.max_depth": {"low": 2, "high": 12, "when": {"model.family": "trees"}},
    "model.groups": {"low": 2, "high": 30, "when": {"model.family": "clusters"}},
}
"""A space of all kinds of parameters, two of which exist only for one choice of another."""
EVALUATIONS = 8
STEPS_BETWEEN = 10
BASE = "name: made\nplatform: cpu\nlaunch: {cluster: local, gpus_per_node: 1}\n"


def make_study(folder: Path, **keys: Any) -> StudyDir:
    """Write the folder of a study that was submitted but has no trial yet.

    Parameters
    ----------
    folder : Path
        ``runs``.
    **keys
        Of the study file.
    """
    given = {
        "name": "made",
        "base": "base.yaml",
        "space": CONDITIONAL,
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "trials": 10,
    }
    section = StudySection.model_validate(given | keys)
    study = StudyDir(folder / section.name / "20261126-120000-abcd")
    study.path.mkdir(parents=True)
    write_study(study, section)
    write_atomic(study.base, BASE)
    study.write_record(StudyRecord("local", time.time() - 3600, section.trials, []))
    return study


def end_trial(
    study: StudyDir, number: int, state: str, values: dict[str, Any], scores: list[float] | None, **facts: Any
) -> None:
    """Write the files of a trial that has ended: ``trial.json`` and ``outcome.json``."""
    trial = study.trial(number)
    trial.path.mkdir(parents=True, exist_ok=True)
    asked = {"number": number, "values": values, "system": {}, "asked_at": 1.79e9 + 60 * number}
    total = EVALUATIONS * STEPS_BETWEEN
    outcome = {
        **asked,
        "evaluations": [],
        "step": total if state == "finished" else 0,
        "total_steps": total,
        "gpu_hours": 0.5,
        "kwh": None,
        "state": state,
        "scores": scores,
        "reason": "",
        "ended_at": asked["asked_at"] + 1800,
    }
    trial.asked.write_text(json.dumps(asked))
    trial.outcome.write_text(json.dumps(outcome | facts))


def curve_towards(score: float, count: int = EVALUATIONS) -> list[list[float]]:
    """Return evaluations that fall to a score."""
    return [[index + 1, score * (1 + 3 * math.exp(-index))] for index in range(count)]


def fill(study: StudyDir, count: int, seed: int = 0) -> None:
    """End the first `count` trials: of each ten six are finished, two pruned, one failed and one diverged."""
    draw = random.Random(seed)
    space = study.space()
    num_objectives = len(study.section().objectives)

    class Drawn:
        def choose(self, parameter: Any) -> Any:
            return parameter.at(draw.random())

    for number in range(count):
        values = space.pick(Drawn())
        score = 0.2 + abs(math.log10(values.get("train.learning_rate", 1e-3)) + 3) + 0.2 * draw.random()
        if number % 10 in (3, 6):
            curve = curve_towards(2 * score, 3)
            facts = {"evaluations": curve, "step": 30, "gpu_hours": 0.2, "reason": "pruned at step 30 of 80"}
            end_trial(study, number, "pruned", values, [curve[-1][1]], **facts)
        elif number % 10 == 8:
            end_trial(study, number, "failed", values, None, reason="exit code 4: out of memory", gpu_hours=0.01)
        elif number % 10 == 9:
            end_trial(study, number, "diverged", values, None, evaluations=[[1, 900.0], [2, None]], step=20)
        else:
            scores = [score, *(100 / (score + draw.random()) for _ in range(num_objectives - 1))]
            end_trial(study, number, "finished", values, scores, evaluations=curve_towards(score))
