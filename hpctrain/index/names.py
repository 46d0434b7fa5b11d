"""What a name in ``--where``, ``--sort`` and ``--show`` means: a column, a key of the profile, or a metric."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection, Float, Table, and_, column, literal_column, table, text
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import FromClause

from hpctrain.errors import Problem
from hpctrain.index import tables
from hpctrain.index.views import views
from hpctrain.index.where import Name, fault
from hpctrain.profile.near import nearest

NUMBER, TEXT, MOMENT, EITHER = "number", "text", "moment", "number or text"
AT = ("best", "last", "lowest", "highest")
"""Which value of a metric: that of the best evaluation by the objective, of the last one, or of all."""
_MOMENTS = ("submitted", "started", "ended")
_TEXTS = (
    "run", "name", "run_id", "kind", "family", "description", "state", "detail", "objective", "gates", "platform",
    "cluster", "job_id", "submitter", "git_commit", "hpctrain", "study", "pipeline", "parent", "advice",
)  # fmt: skip
_NEXT = (
    "WITH RECURSIVE t(k) AS (SELECT min({c}) FROM {t} WHERE {w} UNION ALL "
    "SELECT (SELECT min({c}) FROM {t} WHERE {w} AND {c} > t.k) FROM t WHERE t.k IS NOT NULL) "
    "SELECT k FROM t WHERE k IS NOT NULL"
)
"""All different values of a column of an index, each found by one look into it."""


@dataclass(frozen=True)
class Meaning:
    """What a name means in SQL.

    Parameters
    ----------
    kind : str
        Of its values: :data:`NUMBER`, :data:`TEXT`, :data:`MOMENT` (the number is seconds since 1970) or
        :data:`EITHER`.
    shown, number, text : ColumnElement
        What tables show, and what to compare with numbers and with text.
    """

    kind: str
    shown: ColumnElement[object]
    number: ColumnElement[object]
    text: ColumnElement[object]


@dataclass
class Names:
    """The names that an index knows, and the joins that those need which were asked for.

    Parameters
    ----------
    connection : Connection
    """

    connection: Connection
    problems: list[Problem] = field(default_factory=list)

    def __post_init__(self) -> None:
        dialect = self.connection.dialect.name
        listed = views(dialect)[0]
        self._columns = tuple(listed.columns)
        self.runs = table(listed.name, *(column(name) for name in self._columns))
        self.source: FromClause = self.runs
        self._found: dict[str, Meaning | None] = {}
        self._settings = self._all("settings", "key")
        self._metrics = self._all("metrics", "metric")
        self._judged = self._tasks()

    def _all(self, name: str, of: str, where: str = "1 = 1", **given: str) -> list[str]:
        return [row[0] for row in self.connection.execute(text(_NEXT.format(t=name, c=of, w=where)), given)]

    def _tasks(self) -> dict[str, tuple[str, str]]:
        return {
            f"{task}.{metric}": (task, metric)
            for task in self._all("judged", "task")
            for metric in self._all("judged", "metric", "task = :task", task=task)
        }

    def known(self) -> list[str]:
        """Return all names."""
        return [*self._columns, *self._metrics, *self._judged, *self._settings]

    def meaning(self, name: Name, option: str) -> Meaning | None:
        """Return what a name means; None, and a problem more, if it means nothing."""
        if name.text not in self._found:
            self._found[name.text] = self._look(name, option)
        return self._found[name.text]

    def _look(self, name: Name, option: str) -> Meaning | None:
        wanted = name.text
        if wanted in self._columns:
            return self._of_column(wanted)
        if wanted in self._settings:
            return self._of_setting(wanted)
        before, _, after = wanted.partition(".")
        if wanted in self._metrics:
            return self._of_metric(wanted, "best")
        if before in AT and after in self._metrics:
            return self._of_metric(after, before)
        ends = [key for key in (*self._judged, *self._settings) if key == wanted or key.endswith(f".{wanted}")]
        if len(ends) == 1:
            return self._of_judged(ends[0]) if ends[0] in self._judged else self._of_setting(ends[0])
        self.problems.append(fault(option, name.at, self._unknown(wanted, ends)))
        return None

    def _unknown(self, wanted: str, ends: list[str]) -> str:
        if ends:
            return f"'{wanted}' may mean {', '.join(ends)}; write one of them"
        near = nearest(wanted, self.known())
        if near is not None:
            return f"there is no column, metric or key '{wanted}'; did you mean '{near}'?"
        metrics = ", ".join(self._metrics[:20]) or "none"
        return (
            f"there is no column, metric or key '{wanted}'; columns are {', '.join(self._columns)}; "
            f"metrics are {metrics}; keys are those of profiles, such as train.batch_size"
        )

    def _of_column(self, name: str) -> Meaning:
        found: ColumnElement[object] = self.runs.c[name]
        if name in _MOMENTS:
            is_sqlite = self.connection.dialect.name == "sqlite"
            seconds = f"strftime('%s', {name})" if is_sqlite else f"extract(epoch FROM {name})"
            number = literal_column(f"CAST({seconds} AS {'REAL' if is_sqlite else 'double precision'})", Float)
            return Meaning(MOMENT, found, number, found)
        return Meaning(TEXT if name in _TEXTS else NUMBER, found, found, found)

    def _join(self, other: Table, **where: str) -> FromClause:
        joined = other.alias()
        same = [joined.c[name] == value for name, value in where.items()]
        self.source = self.source.outerjoin(joined, and_(joined.c.run_id == self.runs.c.id, *same))
        return joined

    def _of_setting(self, key: str) -> Meaning:
        joined = self._join(tables.settings, key=key)
        return Meaning(EITHER, joined.c.text, joined.c.number, joined.c.text)

    def _of_metric(self, name: str, at: str) -> Meaning:
        found = self._join(tables.metrics, metric=name).c[at]
        return Meaning(NUMBER, found, found, found)

    def _of_judged(self, name: str) -> Meaning:
        task, metric = self._judged[name]
        found = self._join(tables.judged, task=task, metric=metric).c.value
        return Meaning(NUMBER, found, found, found)
