"""Preparation that has seen the held-out data: scaled columns, and weights of a run that trained on them.

No torch here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.errors import HpctrainError
from hpctrain.profile.load import load_profile
from hpctrain.rundir import RunDir
from hpctrain.samples.split import TEST, TRAIN
from hpctrain.validation.audit.findings import LEAK, MOST_EXAMPLES, NOTE, SUSPICION, Finding
from hpctrain.validation.audit.inputs import Inputs
from hpctrain.validation.audit.rows import Rows, open_rows

if TYPE_CHECKING:
    from hpctrain.profile.schema import Profile

TOLERANCE = 1e-5
"""Deviation of a mean from 0 and of a standard deviation from 1 that rounding to float32 leaves."""

FEWEST_ROWS = 50
"""Rows of a column that is looked at."""


class ScaledColumns:
    """Columns whose mean and scatter, or range, are exact over all rows: they were scaled with the held-out rows.

    Parameters
    ----------
    rows : Rows
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        num = len(rows.names)
        self._count, self._sum, self._square = (np.zeros((2, num)) for _ in range(3))
        self._low, self._high = np.full((2, num), np.inf), np.full((2, num), -np.inf)
        self._at_low, self._at_high = np.zeros((2, num)), np.zeros((2, num))

    def add(self, first: int, inputs: Inputs) -> None:
        """Take the features of the rows from `first` on."""
        if inputs.features is None or not self._rows.names:
            return
        side = self._rows.side[first : first + len(inputs)]
        for number, use in enumerate((np.ones(len(side), dtype=bool), side == TRAIN)):
            values = inputs.features[use].astype(np.float64)
            known = np.isfinite(values)
            filled = np.where(known, values, 0)
            self._count[number] += known.sum(axis=0)
            self._sum[number] += filled.sum(axis=0)
            self._square[number] += np.square(filled).sum(axis=0)
            self._low[number] = np.minimum(
                self._low[number], np.where(known, values, np.inf).min(axis=0, initial=np.inf)
            )
            high = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
            self._high[number] = np.maximum(self._high[number], high)
            self._at_low[number] += (values == 0).sum(axis=0)
            self._at_high[number] += (values == 1).sum(axis=0)

    def findings(self) -> Iterator[Finding]:
        """Yield a finding if columns were scaled with all rows."""
        if not self._rows.names:
            return
        count = np.maximum(self._count, 1)
        mean = self._sum / count
        scatter = np.sqrt(np.maximum(self._square / count - mean**2, 0))
        # With n - 1 in the denominator the standard deviation of all rows is a little above 1.
        unbiased = scatter * np.sqrt(count / np.maximum(count - 1, 1))
        is_unit = (np.abs(scatter - 1) < TOLERANCE) | (np.abs(unbiased - 1) < TOLERANCE)
        exact = (np.abs(mean) < TOLERANCE) & is_unit
        standardised = exact[0] & ~exact[1]
        full_range = (self._low == 0) & (self._high == 1)
        is_single = (self._at_low[0] == 1) & (self._at_high[0] == 1)
        ranged = full_range[0] & ~full_range[1] & is_single
        found = np.flatnonzero((standardised | ranged) & (self._count[0] >= FEWEST_ROWS))
        if not len(found):
            return
        how = "mean 0 and standard deviation 1" if standardised[found].any() else "a range of exactly 0 to 1"
        names = [self._rows.names[number] for number in found.tolist()]
        yield Finding(
            SUSPICION,
            "scaled-with-held-out",
            f"columns with {how} over all rows, but not over the training rows: {len(found)}",
            "whoever scaled them used the held-out rows, so these are no longer unseen",
            "scale with the training rows alone, or feed the columns as they were measured: models here scale them",
            len(found),
            "data.features",
            names[:MOST_EXAMPLES],
        )


def find_earlier_training(profile: Profile, rows: Rows) -> Iterator[Finding]:
    """Yield findings about runs whose weights or results this profile starts from.

    Parameters
    ----------
    profile : Profile
    rows : Rows
        Rows of the profile.
    """
    for key, what in (("train.init_from", profile.train.init_from), ("data.from_run", _from_run(profile))):
        if what is not None:
            yield from _judge_run(key, Path(what), profile, rows)


def _from_run(profile: Profile) -> str | None:
    return getattr(profile.data, "from_run", None)


def _judge_run(key: str, path: Path, profile: Profile, rows: Rows) -> Iterator[Finding]:
    from hpctrain.launch.runs import path_or_run

    found = path_or_run(str(path), Path(profile.launch.runs_dir))
    run = next((each for each in (found, *found.parents) if (each / "profile.yaml").is_file()), None)
    if run is None:
        text = f"{path} is not in a run directory, so nobody can say which objects it was trained on"
        yield Finding(NOTE, "unknown-training", text, key=key)
        return
    try:
        earlier = load_profile(RunDir(run).profile)
        known = open_rows(earlier)
        trained = known.target_id[known.side == TRAIN]
        known.close()
    except HpctrainError as error:
        text = (
            f"the data of the run {run.name} cannot be read, so nobody can say which objects it was trained on: {error}"
        )
        yield Finding(NOTE, "unknown-training", text, key=key)
        return
    held_out = np.flatnonzero((rows.side != TRAIN) & (rows.side <= TEST))
    seen = held_out[np.isin(rows.target_id[held_out], trained)]
    if len(seen):
        yield Finding(
            LEAK,
            "trained-before",
            f"held-out rows of objects that the run {run.name} was trained on: {len(seen):,} of {len(held_out):,}",
            "the weights or features that this profile starts from have seen the objects that judge it",
            f"give both the same data.split, or start from another run ({key})",
            len(seen),
            key,
            [rows.describe(int(row)) for row in seen[:MOST_EXAMPLES]],
        )
