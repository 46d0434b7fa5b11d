"""A folder with runs, a study, a pipeline and a registry, as the writers of each leave them; and ways to change it."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

from registered_runs import FAILED, GATE, added

from hpctrain.checkpoint.lease import take_lease
from hpctrain.index.units import Place
from hpctrain.launch.history import EndedAttempt, append_history
from hpctrain.metrics.events import Finished, Started
from hpctrain.metrics.record import MetricsWriter
from hpctrain.pipeline import folder as stages
from hpctrain.pipeline.folder import PipelineDir, StageState
from hpctrain.pipeline.section import PipelineSection
from hpctrain.registry.actions import promote
from hpctrain.registry.folder import Registry
from hpctrain.rundir import RunDir, write_json
from hpctrain.search.folder import StudyDir, StudyRecord, write_once, write_study
from hpctrain.search.section import StudySection

PROFILE = """\
name: {name}
model: {{family: {family}, trees: {trees}}}
data: {{files: [spectra.h5]}}
train: {{batch_size: {batch_size}, learning_rate: 1e-3, seed: 1}}
checkpoint: {{asynchronous: true}}
"""
JUDGED = {"value": 0.015, "low": 0.014, "high": 0.016, "n": 300, "unit": "", "better": "lower"}


def places_in(folder: Path) -> list[Place]:
    return [Place(what, folder / what) for what in ("runs", "pipelines", "registry")]


def make_run(folder: Path, name: str, number: int, family: str = "trees", batch_size: int = 64) -> RunDir:
    """Submit a run on paper; `number` is a part of its id."""
    run = RunDir.create(folder / "runs", name, f"20261126-1200{number:02d}-{number:04x}")
    run.profile.write_text(PROFILE.format(name=name, family=family, trees=10 * number, batch_size=batch_size))
    submission = {"job_id": f"{100 + number}", "submitted_at": 1.79e9 + number}
    write_json(run.job, {"run_id": run.run_id, "cluster": "slurm", "submissions": [submission]})
    data = {"path": "/data/spectra.h5", "bytes": 1000, "modified": 1.78e9, "columns": {"flux": "ab" * 32}}
    write_json(run.provenance, {"user": "ada", "host": "login", "hpctrain": "0.1.0", "data": [data]})
    return run


def start(run: RunDir, at: float | None = None) -> MetricsWriter:
    """Let the first attempt of a run begin."""
    at = time.time() if at is None else at
    job = {"job_id": run.read_job()["submissions"][0]["job_id"], "restart_count": 0}
    take_lease(run, {**job, "world_size": 2, "num_nodes": 1, "hosts": "node1", "started_at": at})
    beat(run, at)
    writer = MetricsWriter(run, 1)
    where = {"job_id": job["job_id"], "restart_count": 0, "world_size": 2, "num_nodes": 1, "hosts": "node1"}
    what = {"start_step": 0, "total_steps": 100, "torch": "2", "num_parameters": 10, "accumulation": 1, "device": "cpu"}
    writer.event(Started(**where, **what), 0)
    return writer


def beat(run: RunDir, at: float, state: str = "training") -> None:
    facts = {"rank": 0, "attempt": 1, "state": state, "time": at, "interval_s": 10.0, "step": 7, "total_steps": 100}
    write_json(run.heartbeat(0), facts)


def evaluate(writer: MetricsWriter, step: int, **metrics: float) -> None:
    writer.evaluation(step, **metrics)


def finish(run: RunDir, writer: MetricsWriter) -> None:
    """Let a run end well."""
    writer.event(Finished(seconds=50.0, sha256="ab" * 32, check_max_difference=0.0, best_step=100), 100)
    writer.close()
    beat(run, time.time(), "finished")
    append_history(run, EndedAttempt(time.time(), "101", 0, 0, "none", "step-00000100", "finished"))


def finished(folder: Path, name: str, number: int, chi2: float, **facts: object) -> RunDir:
    """Return a finished run with two evaluations; the second one, with `chi2`, is the better one."""
    run = make_run(folder, name, number, **facts)  # type: ignore[arg-type]
    writer = start(run)
    evaluate(writer, 50, loss=2 * chi2, chi2=2 * chi2)
    evaluate(writer, 100, loss=chi2, chi2=chi2, purity=1 / chi2)
    finish(run, writer)
    return run


def judge(run: RunDir) -> None:
    """Write the judgement of a run, with a gate that has passed."""
    run.results.mkdir(exist_ok=True)
    found = {"tasks": {"Z": {"metrics": {"nmad": JUDGED, "outliers_0.15": {**JUDGED, "value": 0.2}}}}, "gates": [GATE]}
    run.validation.write_text(json.dumps(found))


def make_pipeline(folder: Path) -> PipelineDir:
    """Begin to go through a pipeline of two stages."""
    pipeline = PipelineDir(folder / "pipelines" / "weekly" / "20261126-130000-aaaa")
    pipeline.path.mkdir(parents=True)
    commands = [{"name": "make", "run": "true"}, {"name": "look", "run": "true"}]
    pipeline.write_section(PipelineSection.model_validate({"name": "weekly", "stages": commands}))
    pipeline.write_record(cluster="local", started_at=1.79e9)
    do_stage(pipeline, "make", "0123")
    return pipeline


def do_stage(pipeline: PipelineDir, name: str, key: str) -> None:
    """End a stage well."""
    sealed = pipeline.stage(name).sealed(key)
    sealed.mkdir(parents=True)
    write_json(sealed / stages.RESULT, {"key": key, "bytes": 12})
    pipeline.stage(name).write_state(StageState(stages.DONE, key, ["it was never done"], 1.79e9, 1.79e9 + 60, 0))


def make_study(folder: Path) -> StudyDir:
    """Submit a study of which one trial has ended, one is at work, and one is cross-validated by its folds."""
    keys = {"base": "base.yaml", "space": {"model.trees": [10, 20]}, "trials": 3}
    study = StudyDir(folder / "runs" / "hunt" / "20261126-140000-bbbb")
    study.path.mkdir(parents=True)
    write_study(study, StudySection.model_validate({"name": "hunt", **keys}))
    study.write_record(StudyRecord("slurm", 1.79e9, 3, []))
    for number in range(3):
        trial = study.trial(number)
        trial.make_folders()
        trial.profile.write_text(PROFILE.format(name="hunt", family="trees", trees=10, batch_size=16))
        write_once(trial.asked, {"number": number, "values": {"model.trees": 10}, "asked_at": 1.79e9})
        if number < 2:
            write_json(trial.job, {"cluster": "slurm", "submissions": [{"job_id": "7", "submitted_at": 1.79e9}]})
    write_once(study.trial(0).outcome, {"state": "finished", "scores": [0.5], "ended_at": 1.79e9 + 60})
    return study


def fill(folder: Path) -> None:
    """Fill an empty folder: four runs, one of which is running, a pipeline, and a registry with one version."""
    judge(finished(folder, "quasars", 1, 1.1, family="spectral_vae"))
    finished(folder, "quasars", 2, 1.3, family="spectral_vae", batch_size=128)
    finished(folder, "galaxies", 3, 0.9)
    evaluate(start(make_run(folder, "stars", 4)), 7, loss=3.0, chi2=3.0)
    make_pipeline(folder)
    registry = Registry(folder / "registry")
    version = added(registry, folder / "registered", 1.0, [GATE])
    promote(str(version), "champion", "the first one", registry)


def change(folder: Path) -> list[object]:
    """Return ways to change a filled folder, one after the other; each is called once."""
    registry, runs = Registry(folder / "registry"), folder / "runs"
    stars = RunDir(next((runs / "stars").glob("2*")))
    return [
        lambda: stars.metrics.write_text(
            stars.metrics.read_text() + '{"kind":"eval","step":9,"time":1795730400.5,"attempt":1,"loss":2.5}\n'
        ),
        lambda: append_history(stars, EndedAttempt(2e9, "104", 0, 6, "none", "none", "failed")),
        lambda: shutil.rmtree(next((runs / "galaxies").glob("2*"))),
        lambda: finished(folder, "galaxies", 5, 1.05),
        lambda: judge(RunDir(next((runs / "galaxies").glob("2*")))),
        lambda: do_stage(PipelineDir(next((folder / "pipelines/weekly").glob("2*"))), "look", "4567"),
        lambda: shutil.rmtree(folder / "pipelines/weekly/store/make/0123"),
        lambda: added(registry, folder / "registered", 2.0, [FAILED]),
        lambda: promote("photoz:2", "candidate", "to compare", registry),
        lambda: os.rename(runs / "quasars", runs / "qsos"),
        lambda: (runs / "stars" / stars.run_id / "profile.yaml").write_text("model: [\n"),
    ]
