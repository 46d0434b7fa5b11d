"""The views of the index, for people, Grafana and notebooks; docs/runs-in-sql.md lists their columns.

Times are ``timestamp with time zone`` in PostgreSQL, and text in UTC such as ``2026-11-26 21:00:00`` in SQLite.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

from hpctrain.states import LOST, RUNNING

SQLITE, POSTGRESQL = "sqlite", "postgresql"


@dataclass(frozen=True)
class View:
    """A view.

    Parameters
    ----------
    name, about : str
    columns : dict
        Name to SQL expression and description.
    source : str
        What follows ``FROM``.
    """

    name: str
    about: str
    columns: dict[str, tuple[str, str]]
    source: str

    @property
    def sql(self) -> str:
        """The statement after ``CREATE VIEW name AS``."""
        chosen = ", ".join(f'{expression} AS "{name}"' for name, (expression, _) in self.columns.items())
        return f"SELECT {chosen} FROM {self.source}"


class _Words:
    """What the two databases spell differently."""

    def __init__(self, dialect: str) -> None:
        self._is_sqlite = dialect == SQLITE
        self.now = (
            "CAST(strftime('%s', 'now') AS REAL)"
            if self._is_sqlite
            else "CAST(extract(epoch FROM now()) AS double precision)"
        )

    def moment(self, seconds: str) -> str:
        return f"datetime({seconds}, 'unixepoch')" if self._is_sqlite else f"to_timestamp({seconds})"

    def texts(self, expression: str) -> str:
        return f"group_concat({expression}, ', ')" if self._is_sqlite else f"string_agg({expression}, ', ')"


def state_of(words_now: str) -> str:
    """Return the SQL of the state of a run ``r``: one without a heartbeat for a while is lost."""
    return f"CASE WHEN r.state = '{RUNNING}' AND r.silent_after < {words_now} THEN '{LOST}' ELSE r.state END"


def now_of(dialect: str) -> str:
    """Return the SQL of the seconds since 1970."""
    return _Words(dialect).now


_OF_RUN = {
    "name": ("r.name", "name of the run"),
    "run_id": ("r.run_id", "its id"),
}
_RUN = {
    "id": ("r.id", "id of the run in this index, to join views with"),
    "run": ("r.path", "folder of the run"),
    **_OF_RUN,
    "kind": ("r.kind", "run, trial or fold of a study, or stage of a pipeline"),
    "family": ("r.family", "model family"),
}


@cache
def views(dialect: str) -> tuple[View, ...]:
    """Return all views.

    Parameters
    ----------
    dialect : str
        ``sqlite`` or ``postgresql``.
    """
    words = _Words(dialect)
    return (_runs(words), *_of_runs(words), *_of_groups(words), *_of_registry(words))


def _runs(words: _Words) -> View:
    last = f"coalesce(r.ended_at, CASE WHEN r.state = '{RUNNING}' THEN {words.now} END)"
    columns = {
        **_RUN,
        "description": ("r.description", "its description in the profile"),
        "state": (state_of(words.now), "as in hpctrain status, according to the disk alone"),
        "detail": ("r.detail", "how it ended"),
        "step": ("r.step", "steps done"),
        "total_steps": ("r.total_steps", "steps of the whole run"),
        "train_loss": ("r.loss", "last loss of the training"),
        "objective": ("r.objective", "metric that decides which evaluation is the best"),
        "best": ("r.best", "its best value"),
        "best_step": ("r.best_step", "step of the best evaluation"),
        "evaluations": ("r.evaluations", "number of evaluations"),
        "attempts": ("r.attempts", "number of attempts"),
        "exit_code": ("r.exit_code", "exit code of the last attempt"),
        "gates": ("r.gates", "passed or failed, as hpctrain validate found"),
        "platform": ("r.platform", "GPU or board"),
        "cluster": ("r.cluster", "where it was submitted"),
        "job_id": ("r.job_id", "job of its newest submission"),
        "ranks": ("r.ranks", "number of ranks"),
        "submitted": (words.moment("r.submitted_at"), "when it was submitted first"),
        "age": (f"{words.now} - r.submitted_at", "seconds since then"),
        "started": (words.moment("r.started_at"), "when its first attempt began"),
        "ended": (words.moment("r.ended_at"), "last sign of life, unless it is running"),
        "hours": (f"({last} - r.started_at) / 3600.0", "from start to end, with pauses"),
        "gpu_hours": ("r.gpu_hours", "hours of GPUs, or of ranks without GPUs"),
        "kwh": ("r.kwh", "energy, where sensors measured it"),
        "submitter": ("r.submitter", "who submitted it"),
        "git_commit": ("r.git_commit", "commit of the project, else of hpctrain"),
        "hpctrain": ("r.hpctrain", "version of hpctrain"),
        "study": ("s.path", "folder of the study that it belongs to"),
        "pipeline": ("p.path", "folder of the time through a pipeline that it belongs to"),
        "parent": ("r.parent", "run directory that hpctrain rerun made it from"),
        "advice": ("r.advice", "names of the rules of hpctrain advise that found something, the most pressing first"),
    }
    source = "runs r LEFT JOIN studies s ON s.id = r.study_id LEFT JOIN pipelines p ON p.id = r.pipeline_id"
    return View("run_list", "One row per run, trial, fold and training stage.", columns, source)


def _of_runs(words: _Words) -> tuple[View, ...]:
    metric = {
        "metric": ("m.metric", "name of the metric of evaluations"),
        "best": ("m.best", "value at the best evaluation by the objective"),
        "last": ("m.last", "value at the last evaluation"),
        "lowest": ("m.lowest", "lowest value of all evaluations"),
        "highest": ("m.highest", "highest value of all evaluations"),
    }
    curve = {
        "step": ("e.step", "steps done"),
        "time": (words.moment("e.at"), "when"),
        "attempt": ("e.attempt", "number of the attempt"),
        "is_best": ("e.is_best", "whether it is the best evaluation by the objective"),
        "metric": ("m.metric", "name of the metric"),
        "value": ("m.value", "its value"),
    }
    judged = {
        "task": ("m.task", "label or task"),
        "metric": ("m.metric", "name of the metric of hpctrain validate"),
        "value": ("m.value", "its value"),
        "low": ("m.low", "lower end of its interval"),
        "high": ("m.high", "upper end of its interval"),
        "objects": ("m.objects", "number of held-out objects"),
        "unit": ("m.unit", "unit"),
        "better": ("m.better", "lower, higher or zero"),
    }
    gate = {
        "metric": ("g.metric", "metric"),
        "asked": ("g.asked", "what the gate asks"),
        "said": ("g.said", "what was found"),
        "passed": ("g.passed", "whether it passed"),
    }
    setting = {
        "key": ("m.key", "key of the profile, such as train.batch_size"),
        "number": ("m.number", "its value, if that is a number"),
        "text": ("m.text", "its value as text; lists as JSON"),
    }
    return (
        View("run_metrics", "One row per run and metric of its evaluations.", {**_RUN, **metric},
             "metrics m JOIN runs r ON r.id = m.run_id"),
        View("learning_curves", "One row per evaluation and metric; of more than 200 evaluations some are left out.",
             {**_RUN, **curve},
             "points m JOIN runs r ON r.id = m.run_id JOIN evaluations e ON e.run_id = m.run_id AND e.place = m.place"),
        View("run_judgements", "One row per run and metric of hpctrain validate.", {**_RUN, **judged},
             "judged m JOIN runs r ON r.id = m.run_id"),
        View("run_gates", "One row per run and gate.", {**_RUN, **gate}, "gates g JOIN runs r ON r.id = g.run_id"),
        View("run_settings", "One row per run and key of its profile that is set.", {**_RUN, **setting},
             "settings m JOIN runs r ON r.id = m.run_id"),
        View("attempt_list", "One row per attempt.", {**_RUN, **_attempt(words)},
             "attempts a JOIN runs r ON r.id = a.run_id"),
        View("data_sets", "One row per data file as it was when runs were submitted.", _data(words),
             "data_files d JOIN runs r ON r.id = d.unit_id WHERE d.owner = 0 "
             "GROUP BY d.path, d.bytes, d.modified, d.digest"),
    )  # fmt: skip


def _attempt(words: _Words) -> dict[str, tuple[str, str]]:
    return {
        "attempt": ("a.attempt", "its number; NULL if its trainer never started"),
        "job_id": ("a.job_id", "job"),
        "restart": ("a.restart", "number of requeues of the job before it"),
        "ranks": ("a.ranks", "number of ranks"),
        "nodes": ("a.nodes", "number of nodes"),
        "hosts": ("a.hosts", "their names"),
        "started": (words.moment("a.started_at"), "when it began"),
        "ended": (words.moment("a.ended_at"), "when it ended"),
        "hours": ("(a.ended_at - a.started_at) / 3600.0", "how long it took"),
        "exit_code": ("a.exit_code", "its exit code"),
        "followed": ("a.followed", "what followed, such as requeued"),
    }


def _data(words: _Words) -> dict[str, tuple[str, str]]:
    return {
        "path": ("d.path", "path of the file"),
        "bytes": ("d.bytes", "its size"),
        "modified": (words.moment("d.modified"), "when it was changed last"),
        "digest": ("d.digest", "hash over the SHA-256 of its columns, if the file has them"),
        "runs": ("count(*)", "number of runs that were submitted with it"),
        "first_used": (words.moment("min(r.submitted_at)"), "the first of these submissions"),
        "last_used": (words.moment("max(r.submitted_at)"), "the last of these submissions"),
    }


def _of_groups(words: _Words) -> tuple[View, ...]:
    trial = {
        "study": ("s.name", "name of the study"),
        "study_id": ("s.study_id", "its id"),
        "trial": ("t.number", "number of the trial"),
        "state": ("t.state", "as in hpctrain search status"),
        "score": ("t.score", "its first objective"),
        "scores": ("t.scores", "all objectives, as JSON"),
        "chosen": ("t.chosen", "the values of its parameters, as JSON"),
        "asked": (words.moment("t.asked_at"), "when it was chosen"),
        "ended": (words.moment("t.ended_at"), "when it ended"),
        "gpu_hours": ("t.gpu_hours", "hours of GPUs, or of ranks without GPUs"),
        "kwh": ("t.kwh", "energy"),
        "reason": ("t.reason", "why it failed or was pruned"),
        "run": ("r.path", "its run; NULL for a cross-validated trial, whose runs are its folds"),
    }
    stage = {
        "pipeline": ("p.name", "name of the pipeline"),
        "pipeline_id": ("p.pipeline_id", "one time through it"),
        "place": ("g.place", "place of the stage"),
        "stage": ("g.name", "name of the stage"),
        "kind": ("g.kind", "what it does"),
        "state": ("g.state", "as in hpctrain pipeline status"),
        "started": (words.moment("g.started_at"), "when it began"),
        "ended": (words.moment("g.ended_at"), "when it ended"),
        "seconds": ("g.ended_at - g.started_at", "how long it took"),
        "bytes": ("g.bytes", "size of its results"),
        "exit_code": ("g.exit_code", "its exit code"),
        "why": ("g.why", "what had changed"),
        "key": ("g.key", "content key"),
        "results": ("g.results", "folder of its results, or run directory"),
    }
    return (
        View("trial_list", "One row per trial of a study that was chosen.", trial,
             "trials t LEFT JOIN studies s ON s.id = t.study_id LEFT JOIN runs r ON r.id = t.id"),
        View("stage_list", "One row per stage and time through a pipeline.", stage,
             "stages g JOIN pipelines p ON p.id = g.pipeline_id"),
    )  # fmt: skip


def _of_registry(words: _Words) -> tuple[View, ...]:
    newest = (
        "SELECT a.model_id, a.alias, a.to_version FROM moves a WHERE a.place = (SELECT max(b.place) FROM moves b "
        "WHERE b.model_id = a.model_id AND b.alias = a.alias)"
    )
    aliases = (
        f"(SELECT {words.texts('c.alias')} FROM ({newest}) c WHERE c.model_id = v.model_id AND c.to_version = v.number)"
    )
    version = {
        "model": ("v.model", "name of the model"),
        "version": ("v.number", "number of the version"),
        "aliases": (aliases, "aliases that mean it now"),
        "family": ("v.family", "model family"),
        "gates": ("v.gates", "passed, or why not"),
        "added": (words.moment("v.added_at"), "when it was added"),
        "submitter": ("v.submitter", "who added it"),
        "bytes": ("v.bytes", "size of its files"),
        "note": ("v.note", "note"),
        "content": ("v.content", "SHA-256 of its files"),
        "path": ("v.path", "its folder"),
        "run": ("v.run_path", "the run that it was made from"),
        "objective": ("r.objective", "objective of that run, if it is still there"),
        "best": ("r.best", "best value of the objective"),
    }
    move = {
        "model": ("m.model", "name of the model"),
        "alias": ("m.alias", "alias"),
        "place": ("m.place", "number of the move"),
        "action": ("m.action", "promote or rollback"),
        "from_version": ("m.from_version", "version that it meant before"),
        "to_version": ("m.to_version", "version that it means since"),
        "moved": (words.moment("m.moved_at"), "when"),
        "submitter": ("m.submitter", "who"),
        "why": ("m.why", "why"),
        "gates": ("m.gates", "what the gates said"),
    }
    entry = {
        "number": ("a.number", "number of the entry"),
        "time": (words.moment("a.at"), "when"),
        "submitter": ("a.submitter", "who"),
        "host": ("a.host", "where"),
        "action": ("a.action", "what was done"),
        "subject": ("a.subject", "to what"),
        "details": ("a.details", "details, as JSON"),
        "digest": ("a.digest", "SHA-256 of the entry"),
    }
    data = {
        "model": ("v.model", "name of the model"),
        "version": ("v.number", "number of the version"),
        "path": ("d.path", "data file that it has seen"),
        "bytes": ("d.bytes", "its size"),
        "digest": ("d.digest", "hash over the SHA-256 of its columns"),
    }
    return (
        View("version_list", "One row per registered version.", version,
             "versions v LEFT JOIN runs r ON r.path = v.run_path"),
        View("version_data", "One row per registered version and data file.", data,
             "data_files d JOIN versions v ON v.model_id = d.unit_id AND v.number = d.owner"),
        View("alias_moves", "One row per promotion and rollback.", move, "moves m"),
        View("audit_entries", "One row per entry of the audit trail.", entry, "audit a"),
    )  # fmt: skip


def digest(dialect: str) -> str:
    """Return the SHA-256 of all views, by which an index knows that its own are old."""
    return hashlib.sha256("\n".join(f"{view.name} {view.sql}" for view in views(dialect)).encode()).hexdigest()
