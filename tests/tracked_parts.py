"""A study, a cross-validation and a pipeline as they are after all has ended, without any training. No torch."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from families import TINY, profile_values
from registered_runs import GATE
from safetensors.numpy import save

from hpctrain.checkpoint.lease import take_lease
from hpctrain.metrics.events import Failed, Finished, Started
from hpctrain.metrics.record import MetricsWriter
from hpctrain.pipeline.file import read_pipeline
from hpctrain.pipeline.folder import RUNNING, PipelineDir
from hpctrain.pipeline.run import open_pipeline
from hpctrain.pipeline.stage import do_stage
from hpctrain.pipeline.training import prepare, seal_training
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile
from hpctrain.rundir import RunDir, file_digest, write_json
from hpctrain.search.ask import ask
from hpctrain.search.folder import StudyDir, StudyRecord, write_study
from hpctrain.search.folds import tasks_of
from hpctrain.search.referee import StudyReferee
from hpctrain.search.section import StudySection

STEPS = 6
SCORES = (0.5, 0.2, 0.9)
PIPELINE = """\
name: weekly
launch: {cluster: local, gpus_per_node: 0}
stages:
  - {name: ingest, run: "cp raw.h5 {out}/data.h5", inputs: [raw.h5], outputs: [data.h5]}
  - {name: train, profile: base.yaml, set: ['data.files=["{ingest}/data.h5"]']}
  - {name: judge, run: "cp {train}/results/validation.json {out}"}
  - {name: gate, run: "sh -c 'exit 7'"}
  - {name: after, run: "true"}
"""
"""A pipeline that a gate ends after a training."""


def base_values(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the values of a profile of trees on a file in `folder`."""
    tiny = TINY["trees"]
    return {**profile_values(tiny, tiny.tiny_file(folder / "raw.h5")), "name": "forest", **changes}


def train(run: RunDir, score: float = 0.5, gates: Sequence[dict[str, Any]] = (), steps: int = STEPS) -> None:
    """Leave what an attempt leaves that has ended well."""
    run.make_folders()
    writer = MetricsWriter(run, take_lease(run, {"hosts": "node1", "job_id": "17"}))
    writer.event(Started.from_record({"total_steps": steps}), 0)
    for step in range(1, steps + 1):
        writer.train(step, loss=score + 1 / step)
    writer.evaluation(steps, loss=score)
    run.model.mkdir(exist_ok=True)
    weights = run.model / "model.safetensors"
    weights.write_bytes(save({"w": np.full(10, score, np.float32)}))
    card = {"format": "hpctrain-model", "version": 1, "family": "trees", "kind": "catalogue", "section": {}}
    write_json(run.model / "model.json", {**card, "facts": {}, "weights_step": steps})
    if gates:
        metrics = {"nmad": {"value": 0.018, "low": 0.016, "high": 0.021}, "bias": {"value": None}}
        found = {"made_at": time.time(), "model_sha256": file_digest(weights), "gates": list(gates)}
        run.results.mkdir(exist_ok=True)
        write_json(run.validation, {**found, "tasks": {"Z": {"kind": "value", "metrics": metrics}}})
    writer.event(Finished.from_record({"sha256": file_digest(weights), "seconds": 1.0}), steps)
    writer.close()


def fail(run: RunDir) -> None:
    """Leave what a run leaves that has diverged."""
    run.make_folders()
    writer = MetricsWriter(run, 1)
    writer.event(Started.from_record({"total_steps": STEPS}), 0)
    writer.train(1, loss=1e9)
    writer.event(Failed.from_record({"error": "the loss is not finite", "exit_code": 6}), 1)
    writer.close()


def make_study(folder: Path, **keys: Any) -> StudyDir:
    """Return a study of four trials: three have finished, and one has diverged; with `folds`, of one trial."""
    given = {
        "name": "forest-search",
        "base": "base.yaml",
        "space": {"model.min_leaf": {"choices": [1, 2, 3, 4]}},
        "sampler": {"name": "grid"},
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "trials": len(SCORES) + 1,
        **keys,
    }
    section = StudySection.model_validate(given)
    study = StudyDir(folder / "runs" / section.name / "20261126-120000-abcd")
    study.path.mkdir(parents=True)
    write_study(study, section)
    study.base.write_text(dump_profile(profile_of(base_values(folder))))
    study.write_record(StudyRecord("local", time.time(), section.trials))
    scores = [*SCORES, None][: section.trials]
    for number, score in enumerate(scores):
        for task in tasks_of(section, [number]):
            run = study.run(task, section)
            assert ask(run, "")
            if score is None:
                fail(run)
            else:
                StudyReferee(run)(STEPS, {"loss": score})
                train(run, score)
    return study


def make_pipeline(folder: Path) -> PipelineDir:
    """Return one time through :data:`PIPELINE`; the current folder must be `folder`."""
    gates = {"gates": [{"metric": "size.rmse", "below": 1000.0, "min_objects": 2}]}
    (folder / "base.yaml").write_text(yaml.safe_dump(base_values(folder, validate=gates)))
    (folder / "weekly.yaml").write_text(PIPELINE)
    pipeline = open_pipeline(read_pipeline("weekly.yaml"))
    assert do_stage(pipeline.stage("ingest")) == 0
    stage = pipeline.stage("train")
    assert prepare(stage)
    stage.write_state(replace(stage.read_state(), state=RUNNING))
    train(stage, gates=[GATE])
    assert seal_training(stage)
    assert do_stage(pipeline.stage("judge")) == 0
    assert do_stage(pipeline.stage("gate")) == 7
    return pipeline


def digest_in(path: Path) -> str:
    """Return the SHA-256 in a file's record of a stage."""
    return json.loads(path.read_text())["digests"]["data.h5"]
