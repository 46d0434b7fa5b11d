"""``hpctrain.runs``: the runs of a folder. No torch here."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.api.notebook import html_table
from hpctrain.api.run import Run
from hpctrain.errors import HpctrainError, Problem, ProfileError
from hpctrain.launch.present import steps
from hpctrain.launch.queue import Queue
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, all_runs
from hpctrain.launch.status import RunStatus, describe_any
from hpctrain.profile.near import did_you_mean
from hpctrain.states import MEANINGS

if TYPE_CHECKING:
    from astropy.table import Table

    from hpctrain.rundir import RunDir


class Runs(list[Run]):
    """Runs, newest first; a list that shows itself as a table in a notebook."""

    @property
    def table(self) -> Table:
        """One row per run: name, id, state, step, steps, loss, objective, best, path.

        `objective` is the metric that decides which evaluation is the best one, `best` its best value on held-out
        samples. Steps are 0, losses and best values NaN where they are not known.
        """
        import numpy as np
        from astropy.table import Table

        rows = []
        for run, status in zip(self, _statuses(self), strict=True):
            metrics = run.metrics
            metric = metrics.objective.metric
            best = (metrics.best or {}).get(metric, np.nan)
            loss = np.nan if status.loss is None else status.loss
            progress = (status.state, status.step, status.total_steps, loss)
            rows.append((run.name, run.id, *progress, metric, best, str(run.path)))
        names = ("name", "id", "state", "step", "steps", "loss", "objective", "best", "path")
        types = (str, str, str, int, int, float, str, float, str)
        return Table(rows=rows or None, names=names, dtype=types)

    def _repr_html_(self) -> str:
        rows = [
            (run.name, run.id, status.state, steps(status), "" if status.loss is None else f"{status.loss:.4g}")
            for run, status in zip(self, _statuses(self), strict=True)
        ]
        return html_table(rows, ("name", "id", "state", "step", "loss"))


def runs(
    dir: str | Path = DEFAULT_RUNS_DIR,
    *,
    name: str | None = None,
    state: str | Iterable[str] | None = None,
    **where: Any,
) -> Runs:
    """Return the runs of a folder, newest first.

    Parameters
    ----------
    dir : str or Path
        Folder of runs, as ``launch.runs_dir`` in the profile.
    name : str, optional
        Only runs of this name; ``*`` matches anything.
    state : str or iterable of str, optional
        Only runs in one of these states, such as ``finished``.
    **where
        Only runs whose profile has these values; two underscores stand for the dot: ``train__seed=1``.

    Returns
    -------
    Runs
        A list of :class:`~hpctrain.api.run.Run`.

    Raises
    ------
    ProfileError
        There is no such state.
    """
    wanted = [state] if isinstance(state, str) else None if state is None else list(state)
    for each in wanted or []:
        if each not in MEANINGS:
            raise ProfileError("runs", [Problem("state", f"found '{each}'{did_you_mean(each, MEANINGS)}")])
    found = Runs(Run(run.path) for run in all_runs(Path(dir).expanduser()) if _is_meant(run, name, where))
    if wanted is None:
        return found
    return Runs(run for run, status in zip(found, _statuses(found), strict=True) if status.state in wanted)


def _is_meant(run: RunDir, name: str | None, where: dict[str, Any]) -> bool:
    if name is not None and not fnmatch.fnmatchcase(run.name, name):
        return False
    if not where:
        return True
    from hpctrain.profile.load import load_profile

    try:
        profile = load_profile(run.profile)
    except HpctrainError:  # a damaged run hides no other one
        return False
    return all(_value(profile, key) == value for key, value in where.items())


_ABSENT = object()


def _value(profile: Any, key: str) -> Any:
    """Return the value at ``train__seed`` or ``train.seed`` of a profile."""
    value = profile
    for part in key.replace("__", ".").split("."):
        value = getattr(value, part, _ABSENT)
    return value


def _statuses(found: Runs) -> list[RunStatus]:
    queue = Queue()  # one for all, so that a controller that does not answer is asked once
    return [describe_any(run._run, queue) for run in found]
