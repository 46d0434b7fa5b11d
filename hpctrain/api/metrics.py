"""The metrics of a run as arrays. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.api.notebook import html_table
from hpctrain.metrics.objective import Objective
from hpctrain.metrics.read import read_history
from hpctrain.profile.lookup import family_of_file
from hpctrain.records import Record, is_number

if TYPE_CHECKING:
    from astropy.table import Table

    from hpctrain.rundir import RunDir

_ABOUT = ("kind", "event", "step", "time", "attempt")
"""Entries of a record that are no metrics."""
_SHOWN = 5


class Series(Mapping[str, np.ndarray]):
    """Metrics that were recorded at the same steps: a mapping from the name of a metric to its values.

    Parameters
    ----------
    records : sequence of dict
        In the order of writing.

    Attributes
    ----------
    step : ndarray, shape (n,), int64
        Number of steps done.
    time : ndarray, shape (n,), float64
        Seconds since 1970.
    attempt : ndarray, shape (n,), int64
        Number of the attempt that wrote the record.

    Examples
    --------
    >>> train = Series([{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}])
    >>> train.step, train["loss"]
    (array([1, 2]), array([ 2., nan]))
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self.step = np.array([record.get("step", 0) for record in records], dtype=np.int64)
        self.time = np.array([record.get("time", np.nan) for record in records], dtype=np.float64)
        self.attempt = np.array([record.get("attempt") or 0 for record in records], dtype=np.int64)
        numbers = (name for record in records for name, value in record.items() if is_number(value))
        self._names = [name for name in dict.fromkeys(numbers) if name not in _ABOUT]

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the values of a metric, shape (n,), float64; NaN where a record has none, or it was not finite."""
        if name not in self._names:
            raise KeyError(f"no metric {name!r}; there is {', '.join(self._names) or 'none yet'}")
        values = [record.get(name) for record in self._records]
        return np.array([value if is_number(value) else np.nan for value in values], dtype=np.float64)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def table(self) -> Table:
        """Step, time, attempt and all metrics as an astropy table."""
        from astropy.table import Table

        return Table({"step": self.step, "time": self.time, "attempt": self.attempt, **self})

    def __repr__(self) -> str:
        steps = f"steps {self.step[0]} to {self.step[-1]}" if len(self.step) else "no records yet"
        return f"<{len(self.step)} records, {steps}: {', '.join(self._names)}>"

    def _repr_html_(self) -> str:
        newest = range(max(0, len(self.step) - _SHOWN), len(self.step))
        values = {name: self[name] for name in self}
        rows = [(self.step[at], *(f"{values[name][at]:.5g}" for name in values)) for at in newest]
        return html_table(rows, ("step", *values))


class Metrics:
    """What a run has recorded, as it was when this object was made.

    Parameters
    ----------
    run : RunDir

    Attributes
    ----------
    train, evaluation, monitor : Series
        Records of updates, of evaluations on held-out samples, and of the sensors of rank 0. Steps that were lost and
        repeated count once. Of more than some ten thousand records evenly spaced ones and the newest are kept.
    events : list of dict
        Starts, stops, saved checkpoints and so on, oldest first.
    objective : Objective
        The number that decides which evaluation is the best one, as the model family says: the lowest loss by default.
    """

    def __init__(self, run: RunDir) -> None:
        history = read_history(run)
        self.train, self.evaluation = Series(history.train), Series(history.evaluations)
        self.monitor = Series(history.monitor)
        self.events = [event.whole_record() for event in history.events]
        family = family_of_file(run.profile)
        self.objective = Objective() if family is None else family.objective
        self._best = history.best_evaluation(self.objective)

    @property
    def best(self) -> Record | None:
        """The evaluation with the best value of the objective; None if there was none."""
        return None if self._best is None else dict(self._best)

    def __repr__(self) -> str:
        return f"<metrics: train {self.train!r}, evaluation {self.evaluation!r}>"

    def _repr_html_(self) -> str:
        return f"train{self.train._repr_html_()}evaluation{self.evaluation._repr_html_()}"
