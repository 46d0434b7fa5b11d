"""The tables of the index. Their ids are hashes of paths, so the same disk always gives the same rows.

Readers should ask the views (:mod:`hpctrain.index.views`), whose columns stay when the tables change.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, MetaData, Table, Text

metadata = MetaData()


def _table(name: str, *columns: Column[Any], **options: Any) -> Table:
    return Table(name, metadata, *columns, sqlite_with_rowid=False, **options)


def _key(name: str, of: Any = BigInteger) -> Column[Any]:
    return Column(name, of, primary_key=True, autoincrement=False)


def _texts(*names: str) -> list[Column[Any]]:
    return [Column(name, Text) for name in names]


def _numbers(*names: str) -> list[Column[Any]]:
    return [Column(name, Double) for name in names]


def _counts(*names: str) -> list[Column[Any]]:
    return [Column(name, BigInteger) for name in names]


units = _table(
    "units",
    _key("id"),
    Column("kind", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
)
"""What was read: `place` is the folder of runs, pipelines or the registry that it lies in."""

runs = _table(
    "runs",
    _key("id"),
    *_texts("path", "kind", "name", "run_id", "description", "family", "platform", "state", "detail"),
    *_counts("step", "total_steps"),
    *_numbers("loss"),
    *_texts("objective"),
    Column("lower_is_better", Boolean),
    *_numbers("best"),
    *_counts("best_step", "evaluations", "attempts", "exit_code"),
    *_texts("cluster", "job_id"),
    *_counts("ranks"),
    *_numbers("submitted_at", "started_at", "ended_at", "silent_after", "gpu_hours", "kwh"),
    *_texts("submitter", "host", "hpctrain", "git_commit", "gates"),
    *_counts("study_id", "pipeline_id"),
    *_texts("parent", "advice"),
)

attempts = _table(
    "attempts",
    _key("run_id"),
    _key("place", Integer),
    *_counts("attempt"),
    *_texts("job_id"),
    *_counts("restart", "ranks", "nodes"),
    *_texts("hosts"),
    *_numbers("started_at", "ended_at"),
    *_counts("exit_code"),
    *_texts("followed"),
)

evaluations = _table(
    "evaluations",
    _key("run_id"),
    _key("place", Integer),
    *_counts("step", "attempt"),
    *_numbers("at"),
    Column("is_best", Boolean),
)

points = _table(
    "points",
    _key("metric", Text),
    _key("run_id"),
    _key("place", Integer),
    *_numbers("value"),
)
"""Values of the metrics at each evaluation."""

curves = _table("curves", _key("run_id"), _key("part", Text), *_texts("steps", "losses"))
"""The losses of a run against the step, as JSON, thinned: `part` is ``train`` or ``eval``."""

metrics = _table(
    "metrics",
    _key("metric", Text),
    _key("run_id"),
    *_numbers("best", "last", "lowest", "highest"),
)

settings = _table("settings", _key("key", Text), _key("run_id"), *_numbers("number"), *_texts("text"))

judged = _table(
    "judged",
    _key("task", Text),
    _key("metric", Text),
    _key("run_id"),
    *_numbers("value", "low", "high"),
    *_counts("objects"),
    *_texts("unit", "better"),
)

gates = _table(
    "gates",
    _key("run_id"),
    _key("place", Integer),
    *_texts("metric", "asked", "said"),
    Column("passed", Boolean),
)

data_files = _table(
    "data_files",
    _key("unit_id"),
    _key("owner", Integer),
    _key("place", Integer),
    *_texts("path"),
    *_counts("bytes"),
    *_numbers("modified"),
    *_texts("hashes", "digest"),
)
"""Data files of a run (`owner` 0), or of a version (`owner` its number, `unit_id` the model)."""

studies = _table(
    "studies",
    _key("id"),
    *_texts("path", "name", "study_id", "cluster", "sampler", "pruner", "objectives"),
    *_numbers("submitted_at"),
    *_counts("trials"),
)

trials = _table(
    "trials",
    _key("id"),
    *_counts("study_id", "number"),
    *_texts("state", "chosen"),
    *_numbers("score"),
    *_texts("scores"),
    *_numbers("asked_at", "ended_at", "gpu_hours", "kwh"),
    *_texts("reason"),
)

pipelines = _table(
    "pipelines",
    _key("id"),
    *_texts("path", "name", "pipeline_id", "cluster"),
    *_numbers("started_at"),
)

stages = _table(
    "stages",
    _key("pipeline_id"),
    _key("place", Integer),
    *_texts("name", "kind", "state", "key", "why"),
    *_numbers("started_at", "ended_at"),
    *_counts("exit_code", "bytes"),
    *_texts("results"),
)

versions = _table(
    "versions",
    _key("model_id"),
    _key("number", Integer),
    *_texts("model", "path", "family", "kind", "run_path", "content", "note", "gates"),
    *_counts("bytes"),
    *_numbers("added_at"),
    *_texts("submitter", "host"),
)

moves = _table(
    "moves",
    _key("model_id"),
    _key("alias", Text),
    _key("place", Integer),
    *_texts("model", "action"),
    *_counts("from_version", "to_version"),
    *_texts("why", "gates", "submitter"),
    *_numbers("moved_at"),
)

audit = _table(
    "audit",
    _key("trail_id"),
    _key("place", Integer),
    *_counts("number"),
    *_numbers("at"),
    *_texts("submitter", "host", "action", "subject", "details", "digest"),
)

about = _table("about", _key("name", Text), *_texts("value"))
"""Facts about the index itself, such as the SHA-256 of its views."""

for _of in (points, metrics, settings, judged):
    Index(f"{_of.name}_of_run", _of.c.run_id)
Index("runs_path", runs.c.path, unique=True)
Index("units_place", units.c.place)

OWNER = {
    runs: "id",
    attempts: "run_id",
    evaluations: "run_id",
    points: "run_id",
    curves: "run_id",
    metrics: "run_id",
    settings: "run_id",
    judged: "run_id",
    gates: "run_id",
    data_files: "unit_id",
    studies: "id",
    trials: "id",
    pipelines: "id",
    stages: "pipeline_id",
    versions: "model_id",
    moves: "model_id",
    audit: "trail_id",
}
"""Each table that is made from the disk, and its column with the id of the unit that a row comes from."""
