"""One time through a pipeline, and its stages, as tracked runs: the pipeline is the parent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpctrain.credentials.hide import hide_secrets, hide_secrets_in
from hpctrain.metrics.exporters.facts import BY_CONTENT, data_of, flat, sha256_of
from hpctrain.metrics.exporters.subject import (
    FAILED,
    FINISHED,
    INPUT,
    OUTPUT,
    RUNNING,
    SCHEDULED,
    DataSet,
    News,
    Subject,
)
from hpctrain.pipeline import folder
from hpctrain.pipeline.folder import PipelineDir, StageDir
from hpctrain.pipeline.kinds import OUT, needs_of
from hpctrain.pipeline.run import is_over
from hpctrain.pipeline.section import GATE, TRAIN, PipelineSection, StageSection
from hpctrain.profile.load import load_profile
from hpctrain.records import Record
from hpctrain.registry.folder import Registry, registry_at
from hpctrain.rundir import RunDir, read_json
from hpctrain.tracking.runs import Versions, run_subject

PIPELINE, STAGE = "pipeline", "stage"
_STATUS = {
    folder.WAITING: SCHEDULED,
    folder.RUNNING: RUNNING,
    folder.FAILED: FAILED,
    folder.GATE_FAILED: FAILED,
}
_SHORT = 12
_BAD = (folder.FAILED, folder.GATE_FAILED)


def registry_of(pipeline: PipelineDir) -> Registry:
    """Return the registry that a stage of the pipeline adds to, unless its options name another."""
    return registry_at(None, Path(pipeline.read_record().get("cwd") or Path.cwd()) / "runs")


def pipeline_subject(pipeline: PipelineDir) -> Subject:
    """Return one time through a pipeline; its numbers are times and sizes of its stages."""
    section = pipeline.section()
    values = hide_secrets_in(section.model_dump(mode="json", exclude_none=True))
    stages = [pipeline.stage(stage.name) for stage in section.stages if not stage.skip]
    states = {stage.stage_name: stage.read_state() for stage in stages}
    record = pipeline.read_record()
    ends = [state.ended_at for state in states.values()]
    bad = any(state.state in _BAD for state in states.values())
    tags = {"pipeline_directory": str(pipeline.path), "cluster": str(record.get("cluster", ""))}
    tags |= {f"stage.{name}": state.state for name, state in states.items()}
    return Subject(
        RunDir(pipeline.path),
        PIPELINE,
        f"{pipeline.name}/{pipeline.id}",
        f"{pipeline.name}-{pipeline.id}",
        pipeline.name,
        description=section.description,
        parameters=dict(flat(_by_name(values))),
        tags={**tags, **_gate_tags(section, states)},
        config={"pipeline": values},
        data=tuple(each for stage in stages for each in _inputs(stage)),
        news=lambda known: _news_of_stages(pipeline, stages, known),
        status=FAILED if bad else FINISHED if is_over(pipeline) else RUNNING,
        began_s=record.get("started_at"),
        ended_s=max(ends, default=0.0) or None,
    )


def stage_subjects(pipeline: PipelineDir, parent: Subject, versions: Versions) -> Iterator[Subject]:
    """Yield the stages that have begun, in their order."""
    for stage in pipeline.section().stages:
        if not stage.skip and pipeline.stage(stage.name).read_state().state != folder.WAITING:
            yield stage_subject(pipeline.stage(stage.name), parent, versions)


def stage_subject(stage: StageDir, parent: Subject, versions: Versions) -> Subject:
    """Return a stage: a run with its records if it has trained here, else its commands, files, time and size."""
    own, state = stage.section(), stage.read_state()
    result = _result(stage)
    changes: dict[str, Any] = {"kind": STAGE, "parent": parent, "title": stage.stage_name}
    changes |= {"experiment": parent.experiment, "tags": _stage_tags(stage, own)}
    if own.does == TRAIN and stage.profile.is_file() and result.get("run", str(stage.path)) == str(stage.path):
        trains = read_json(stage.path / "trains.json", {})
        key = trains.get("key", "") if isinstance(trains, dict) else ""
        changes |= {"key": f"{stage.pipeline.id}/{stage.stage_name}-{key}", "data": data_of(stage, _known(stage))}
        return run_subject(stage, load_profile(stage.profile), versions, **changes)
    values = hide_secrets_in(own.model_dump(mode="json", exclude_none=True))
    return Subject(
        run=stage,
        key=f"{stage.pipeline.id}/{stage.stage_name}",
        parameters=dict(flat(values)),
        config={"stage": values},
        data=(*_inputs(stage), *_results_it_needs(stage), *_outputs(stage, OUTPUT)),
        news=lambda known: _stage_news(stage, known),
        status=_STATUS.get(state.state, FINISHED),
        began_s=state.started_at or None,
        ended_s=state.ended_at or None,
        **changes,
    )


def _by_name(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pipeline file with its stages by name, so that keys stay the same if a stage is added."""
    return {**values, "stages": {stage["name"]: stage for stage in values["stages"]}}


def _gate_tags(section: PipelineSection, states: Mapping[str, folder.StageState]) -> dict[str, str]:
    gates = {stage.name: states[stage.name].state for stage in section.stages if stage.does == GATE and not stage.skip}
    if any(state.state == folder.GATE_FAILED for state in states.values()):
        return {"gates": "failed"}
    ended = all(state in (folder.DONE, folder.DONE_BEFORE) for state in gates.values())
    return {"gates": "passed"} if gates and ended else {}


def _stage_tags(stage: StageDir, own: StageSection) -> dict[str, str]:
    state = stage.read_state()
    facts = {"stage": stage.stage_name, "does": own.does, "state": state.state, "key": state.key}
    if state.why:
        facts["why"] = hide_secrets("; ".join(state.why))
    if state.exit_code:
        facts["exit_code"] = str(state.exit_code)
    if result := _result(stage):
        facts["results"] = result.get("run") or str(stage.sealed(state.key))
    return {name: value for name, value in facts.items() if value}


def _result(stage: StageDir) -> Mapping[str, Any]:
    key = stage.read_state().key
    return (stage.read_result(key) if key else None) or {}


def _inputs(stage: StageDir) -> Iterator[DataSet]:
    """Yield the files from outside that a stage has read."""
    for path, digest in (_result(stage).get("parts", {}).get("inputs") or {}).items():
        yield DataSet(path, digest, BY_CONTENT, INPUT)


def _outputs(stage: StageDir, role: str) -> Iterator[DataSet]:
    """Yield the files that a stage has written."""
    result = _result(stage)
    place = Path(result["run"]) if "run" in result else stage.sealed(stage.read_state().key) / OUT
    for name, digest in (result.get("digests") or {}).items():
        yield DataSet(str(place / name), digest, BY_CONTENT, role)


def _results_it_needs(stage: StageDir) -> Iterator[DataSet]:
    section = stage.pipeline.section()
    for need in needs_of(section, stage.section()) if _result(stage) else ():
        yield from _outputs(stage.pipeline.stage(need), INPUT)


def _known(stage: StageDir) -> dict[str, str]:
    """Return the SHA-256 of what the stages before a stage have written, by path."""
    return {each.path: each.digest for each in _results_it_needs(stage)} if _result(stage) else {}


def _news_of_stages(pipeline: PipelineDir, stages: list[StageDir], known: Mapping[str, str]) -> Iterator[News]:
    for place, stage in enumerate(stages):
        for news in _stage_news(stage, known, f"stage {stage.stage_name}"):
            (record,) = news.records
            named = {f"{stage.stage_name}.{name}": record[name] for name in record.keys() - {"kind", "step", "time"}}
            yield News(news.key, news.state, [{"kind": STAGE, "step": place, "time": record["time"], **named}])


def _stage_news(stage: StageDir, known: Mapping[str, str], key: str = STAGE) -> Iterator[News]:
    """Yield time and size of a stage if it was done in this time through the pipeline, or how long it took to fail."""
    state, result = stage.read_state(), _result(stage)
    began = stage.pipeline.read_record().get("started_at") or 0.0
    if result and result["ended_at"] >= began:
        numbers = {"duration_s": result["ended_at"] - result.get("started_at", result["ended_at"])}
        numbers |= {"mib": result.get("bytes", 0) / 2**20, "files": len(result.get("digests") or {})}
        moment = result["ended_at"]
    elif state.state in _BAD:
        numbers = {"duration_s": state.ended_at - state.started_at if state.started_at else 0.0}
        moment = state.ended_at
    else:
        return
    now = sha256_of([state.key, moment])[:_SHORT]  # the states of all stages share one tag
    if known.get(key) != now:
        record: Record = {"kind": STAGE, "step": 0, "time": moment, **numbers}
        yield News(key, now, [record])
