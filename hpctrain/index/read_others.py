"""Studies, pipelines, models of a registry and audit trails as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from hpctrain.index import tables
from hpctrain.index.read_run import add_data_files, locked_rows, run_rows, trial_rows
from hpctrain.index.rows import Rows, as_json
from hpctrain.index.units import AUDIT, FOLD, LOCKED, MODEL, PIPELINES, RUN, STAGE, STUDIES, TRIAL, Unit
from hpctrain.pipeline.folder import RESULT, PipelineDir, StageDir
from hpctrain.registry.aliases import history_of
from hpctrain.registry.folder import ModelFolder, Registry
from hpctrain.registry.gates import gates_of
from hpctrain.registry.version import read_version
from hpctrain.rundir import read_json
from hpctrain.search.folder import StudyDir
from hpctrain.states import RUNNING
from hpctrain.trail.chain import Entry, read_trail

_TOGETHER = 5000
"""Number of entries of an audit trail that are in memory at once."""


def rows_of(unit: Unit) -> Iterator[Rows]:
    """Yield the rows of a unit, in parts that fit into memory.

    A unit that cannot be read, or holds what nobody expects, gives an error; it must not hide the others.
    """
    yield from _READERS[unit.kind](unit)


def _run(unit: Unit) -> Iterator[Rows]:
    yield locked_rows(unit) if unit.fingerprint == LOCKED else run_rows(unit)


def _trial(unit: Unit) -> Iterator[Rows]:
    folder = Path(unit.path)
    if any((folder / name).exists() for name in ("job.json", "metrics.jsonl")):
        yield run_rows(unit)
    else:  # its runs are its folds
        yield trial_rows(unit, RUNNING)


def _study(unit: Unit) -> Iterator[Rows]:
    study, rows = StudyDir(unit.path), Rows()
    record = read_json(study.record, {})
    facts = record if isinstance(record, dict) else {}
    file = _yaml(study.study)
    named = {name: (file.get(name) or {}) for name in ("sampler", "pruner")}
    rows.add(
        tables.studies,
        id=unit.id,
        path=unit.path,
        name=study.name,
        study_id=study.id,
        cluster=facts.get("cluster"),
        submitted_at=facts.get("submitted_at"),
        trials=facts.get("trials"),
        sampler=_name_of(named["sampler"]),
        pruner=_name_of(named["pruner"]),
        objectives=as_json(file.get("objectives") or []),
    )
    yield rows


def _yaml(path: Path) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _name_of(section: Any) -> str | None:
    return section.get("name") if isinstance(section, Mapping) else str(section)


def _pipeline(unit: Unit) -> Iterator[Rows]:
    pipeline, rows = PipelineDir(unit.path), Rows()
    record = pipeline.read_record()
    rows.add(
        tables.pipelines,
        id=unit.id,
        path=unit.path,
        name=pipeline.name,
        pipeline_id=pipeline.id,
        cluster=record.get("cluster"),
        started_at=record.get("started_at"),
    )
    for place, section in enumerate(pipeline.section().stages, 1):
        _add_stage(rows, unit.id, place, section.does, pipeline.stage(section.name))
    yield rows


def _add_stage(rows: Rows, pipeline_id: int, place: int, kind: str, stage: StageDir) -> None:
    state = stage.read_state()
    result = read_json(stage.sealed(state.key) / RESULT, {}) if state.key else {}
    facts = result if isinstance(result, dict) else {}
    rows.add(
        tables.stages,
        pipeline_id=pipeline_id,
        place=place,
        name=stage.stage_name,
        kind=kind,
        state=state.state,
        key=state.key or None,
        why="; ".join(map(str, state.why)) or None,
        started_at=state.started_at or None,
        ended_at=state.ended_at or None,
        exit_code=state.exit_code,
        bytes=facts.get("bytes"),
        results=facts.get("run") or (str(stage.sealed(state.key)) if facts else None),
    )


def _model(unit: Unit) -> Iterator[Rows]:
    path = Path(unit.path)
    model, rows = ModelFolder(Registry(path.parent.parent), path.name), Rows()
    for number in model.numbers():
        _add_version(rows, unit.id, model, number)
    for alias in model.alias_names():
        for move in history_of(model, alias):
            facts = {name: move.facts.get(name) for name in ("action", "why", "gates")}
            rows.add(
                tables.moves,
                model_id=unit.id,
                alias=alias,
                place=move.number,
                model=model.name,
                from_version=move.facts.get("from"),
                to_version=move.to,
                submitter=(move.facts.get("who") or {}).get("user"),
                moved_at=move.facts.get("when"),
                **facts,
            )
    yield rows


def _add_version(rows: Rows, model_id: int, model: ModelFolder, number: int) -> None:
    version = read_version(model, number)
    added = version.facts.get("added") or {}
    report = gates_of(version)
    known = {name: version.facts.get(name) for name in ("family", "kind", "content", "note")}
    rows.add(
        tables.versions,
        model_id=model_id,
        number=number,
        model=model.name,
        path=str(version.path),
        run_path=(version.facts.get("run") or {}).get("path"),
        gates="passed" if report.passed else str(report),
        bytes=version.size,
        added_at=added.get("when"),
        submitter=added.get("user"),
        host=added.get("host"),
        **known,
    )
    lineage, provenance = (read_json(version.path / name) for name in ("lineage.json", "provenance.json"))
    files = lineage.get("files") if isinstance(lineage, dict) else None
    if files is None and isinstance(provenance, dict):
        files = provenance.get("data")
    add_data_files(rows, model_id, number, files)


def _trail(unit: Unit) -> Iterator[Rows]:
    rows = Rows()
    for place, entry in enumerate(read_trail(Path(unit.path))):
        if not isinstance(entry, Entry):
            continue
        facts = {name: entry.facts.get(name) for name in ("number", "host", "action", "subject")}
        rows.add(
            tables.audit,
            trail_id=unit.id,
            submitter=entry.facts.get("user"),
            place=place,
            at=entry.facts.get("when"),
            details=as_json(entry.facts.get("details")),
            digest=entry.digest,
            **facts,
        )
        if len(rows) >= _TOGETHER:
            yield rows
            rows = Rows()
    yield rows


_READERS: Mapping[str, Callable[[Unit], Iterator[Rows]]] = {
    RUN: _run,
    FOLD: _run,
    STAGE: _run,
    TRIAL: _trial,
    STUDIES: _study,
    PIPELINES: _pipeline,
    MODEL: _model,
    AUDIT: _trail,
}
