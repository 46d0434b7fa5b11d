"""What the page of all runs shows, from the index: the newest runs, their losses, studies and pipelines."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, func, select

from hpctrain.index import tables
from hpctrain.index.page.keys import Keys, differing_keys
from hpctrain.index.page.sparkline import MOST_CURVES, Curve, num_points, thin
from hpctrain.index.units import Place
from hpctrain.states import LOST, RUNNING

REPORT = "report.html"
"""Name of the page of a run, a study and a pipeline in its folder."""


@dataclass(frozen=True)
class ShownRun:
    """A run on the page.

    Parameters
    ----------
    row : Row
        Its row in the table of runs, with `study` and `pipeline`: the paths of those that it belongs to.
    state : str
        As of now: a running one without heartbeat is lost.
    has_report : bool
    train, evaluation : Curve or None
    """

    row: Row[Any]
    state: str
    has_report: bool
    train: Curve | None
    evaluation: Curve | None


@dataclass(frozen=True)
class ShownGroup:
    """A study or a pipeline on the page: how many trials or stages it has, and when it began [s since 1970]."""

    path: str
    name: str
    group_id: str
    began: float | None
    count: int
    has_report: bool


@dataclass(frozen=True)
class Overview:
    """All that the page shows.

    Parameters
    ----------
    runs : list of ShownRun
        The newest first.
    num_runs : int
        Number of runs that the index knows in these folders; `runs` may hold fewer.
    keys : Keys
        Keys of profiles that differ between the runs.
    studies, pipelines : list of ShownGroup
    mode : int
        Permissions of the page: who may not read one of the runs may not read the page.
    """

    runs: list[ShownRun]
    num_runs: int
    keys: Keys
    studies: list[ShownGroup] = field(default_factory=list)
    pipelines: list[ShownGroup] = field(default_factory=list)
    mode: int = 0o666


def gather(connection: Connection, places: Sequence[Place], most: int, now: float) -> Overview:
    """Read from an index what the page shows.

    Parameters
    ----------
    connection : Connection
    places : sequence of Place
        The folders whose runs, studies and pipelines are shown.
    most : int
        Largest number of runs.
    now : float
        Seconds since 1970.
    """
    paths = [str(place.path) for place in places]
    inside = tables.units.c.place.in_(paths)
    rows = _newest_rows(connection, inside, most)
    curves = _curves(connection, {row.id for row in rows})
    runs = [
        ShownRun(
            row,
            LOST if row.state == RUNNING and (row.silent_after or 0.0) < now else row.state,
            os.path.exists(os.path.join(row.path, REPORT)),
            curves.get((row.id, "train")),
            curves.get((row.id, "eval")),
        )
        for row in rows
    ]
    total = select(func.count()).select_from(tables.runs.join(tables.units, tables.units.c.id == tables.runs.c.id))
    return Overview(
        runs,
        connection.execute(total.where(inside)).scalar_one(),
        differing_keys(connection, [row.id for row in rows]),
        list(_studies(connection, inside)),
        list(_pipelines(connection, inside)),
        _mode_for([row.path for row in rows]),
    )


def _newest_rows(connection: Connection, inside: Any, most: int) -> list[Row[Any]]:
    runs, studies, pipelines = tables.runs, tables.studies, tables.pipelines
    joined = (
        runs.join(tables.units, tables.units.c.id == runs.c.id)
        .outerjoin(studies, studies.c.id == runs.c.study_id)
        .outerjoin(pipelines, pipelines.c.id == runs.c.pipeline_id)
    )
    query = select(*runs.c, studies.c.path.label("study"), pipelines.c.path.label("pipeline")).select_from(joined)
    newest = (runs.c.submitted_at.desc().nulls_last(), runs.c.run_id.desc(), runs.c.path)
    return list(connection.execute(query.where(inside).order_by(*newest).limit(most)))


def _curves(connection: Connection, ids: set[int]) -> dict[tuple[int, str], Curve]:
    """Return the curves of the runs; of many runs each has fewer points, and only the loss of training."""
    found, most = {}, num_points(len(ids))
    query = select(*tables.curves.c)
    if len(ids) > MOST_CURVES:
        query = query.where(tables.curves.c.part == "train")
    for run_id, part, steps, losses in connection.execute(query):
        if run_id in ids:
            found[run_id, part] = thin(Curve(json.loads(steps), json.loads(losses)), most)
    return found


def _studies(connection: Connection, inside: Any) -> Iterator[ShownGroup]:
    one, many = tables.studies, tables.trials
    query = select(one.c.path, one.c.name, one.c.study_id, one.c.submitted_at, func.count(many.c.id)).select_from(
        one.join(tables.units, tables.units.c.id == one.c.id).outerjoin(many, many.c.study_id == one.c.id)
    )
    yield from _groups(connection, query.where(inside).group_by(one.c.id), one.c.submitted_at)


def _pipelines(connection: Connection, inside: Any) -> Iterator[ShownGroup]:
    one, many = tables.pipelines, tables.stages
    query = select(one.c.path, one.c.name, one.c.pipeline_id, one.c.started_at, func.count(many.c.place)).select_from(
        one.join(tables.units, tables.units.c.id == one.c.id).outerjoin(many, many.c.pipeline_id == one.c.id)
    )
    yield from _groups(connection, query.where(inside).group_by(one.c.id), one.c.started_at)


def _groups(connection: Connection, query: Any, began: Any) -> Iterator[ShownGroup]:
    for row in connection.execute(query.order_by(began.desc().nulls_last())):
        yield ShownGroup(*row, has_report=os.path.exists(os.path.join(row[0], REPORT)))


def _mode_for(paths: Sequence[str]) -> int:
    mode = 0o666
    for path in paths:
        try:
            mode &= stat.S_IMODE(os.stat(path).st_mode) | 0o600
        except OSError:  # removed meanwhile
            continue
    return mode
