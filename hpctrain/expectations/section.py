"""The file of expectations, typed: what each column, the identifiers, the sky and the number of rows must be like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from hpctrain.errors import ProfileError
from hpctrain.profile.document import sort_problems
from hpctrain.profile.explain import typed
from hpctrain.profile.near import did_you_mean
from hpctrain.profile.reading import read_plain
from hpctrain.profile.sections.base import Line, Section, Switch
from hpctrain.words import is_number

FORMAT = "hpctrain-expectations"
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class RowsSection(Section):
    """Number of objects in all files together."""

    min: Count = 1
    """Smallest number."""
    max: Count | None = None
    """Largest number; no limit if unset."""


class IdsSection(Section):
    """Identifiers and rows that must not come twice."""

    column: Line | None = None
    """Column of the identifiers; none is checked if unset."""
    repeated: Share = 0.0
    """Largest share of rows whose identifier came in an earlier row."""
    repeated_rows: Share = 0.0
    """Largest share of rows that equal an earlier row in all columns."""
    in_reference: Share = 0.01
    """Largest share of rows that equal a row of the reference in all columns."""


class SkySection(Section):
    """Positions on the sky, in cells of HEALPix (nested order)."""

    ra: Line
    """Column of the right ascension [deg]."""
    dec: Line
    """Column of the declination [deg]."""
    nside: Annotated[int, Field(ge=1, le=64)]
    """Cells along the side of each of HEALPix's twelve; a power of two."""
    cells: list[Count]
    """Cells that hold good objects."""
    counts: list[Count]
    """Number of good objects in each of `cells`."""
    outside: Share = 0.0
    """Largest share of objects in cells where good data had none."""
    lost: Share = 0.1
    """Largest share of the good objects whose cells are empty now, beyond what their number explains."""

    @model_validator(mode="after")
    def _cells_are_there(self) -> SkySection:
        if self.nside & (self.nside - 1):
            raise ValueError("needs nside to be a power of two: 1, 2, 4, 8, 16, 32 or 64")
        if len(self.counts) != len(self.cells):
            raise ValueError(f"needs a count for each cell: {len(self.cells)} cells, {len(self.counts)} counts")
        last = 12 * self.nside**2 - 1
        if wrong := [cell for cell in self.cells if cell > last]:
            raise ValueError(f"has no cell {wrong[0]}; with nside {self.nside} the cells are 0 to {last}")
        return self

    @property
    def in_cells(self) -> np.ndarray:
        """Number of good objects in each cell of the sky, shape (12 * nside ** 2,), int64."""
        found = np.zeros(12 * self.nside**2, dtype=np.int64)
        found[self.cells] = self.counts
        return found


class GridSection(Section):
    """The wavelength grid of spectra that share one."""

    pixels: Annotated[int, Field(ge=2)]
    """Number of pixels."""
    knots: Annotated[list[float], Field(min_length=2)]
    """Wavelengths [AA] of pixels that are evenly spread from the first to the last."""
    within_pixels: Annotated[float, Field(gt=0)] = 0.1
    """Largest shift [pixel]."""


class ErrorsSection(Section):
    """The noise in spectra, compared with their column ivar."""

    held_as: Literal["ivar", "sigma", "variance"] = "ivar"
    """What the noise says that the column ivar holds."""
    departure_dex: float = 0.0
    """Log10 of the variance of the noise over that of ivar in good data."""
    within_dex: Annotated[float, Field(gt=0)] = 0.3
    """Largest change of this number."""


class SentinelSection(Section):
    """A number that stands for "not known"."""

    value: float
    """The number."""
    share: Share
    """Largest share of rows with it."""


class DriftSection(Section):
    """What counts as drift, besides being more than chance."""

    distance: Share = 0.05
    """Smallest difference of the cumulative shares (Kolmogorov-Smirnov), or of the shares of classes, that counts."""
    psi: Annotated[float, Field(ge=0)] = 0.2
    """Smallest population stability index that counts."""


class ColumnSection(Section):
    """What one column must be like. What is unset is not checked."""

    type: Literal["number", "whole", "text", "flag"] | None = None
    """Numbers, whole numbers, texts, or true and false."""
    dtype: Line | None = None
    """Type in the file, such as float32; unset for files of text."""
    shape: list[int] = []
    """Shape of the values of one row."""
    unit: Line | None = None
    """Unit, as the file states it; an empty text means that it states none."""
    range: tuple[float, float] | None = Field(default=None, strict=False)
    """Smallest and largest value."""
    outside: Share = 0.0
    """Largest share of rows outside the range."""
    missing: Share | None = None
    """Largest share of rows without a value: NaN, infinite, null, or an empty text."""
    sentinels: list[SentinelSection] = []
    """Numbers that stand for "not known" in good data. Any other usual one, such as -99, is an error."""
    classes: dict[str, Share] | None = None
    """Classes and their shares."""
    other_classes: Share = 0.0
    """Largest share of rows with another class."""
    quantiles: list[float] = []
    """Values at evenly spaced cumulative shares from 0 to 1, with which new data are compared."""
    drift: Switch = True
    """Whether drift is looked for."""
    distance: Share | None = None
    """As drift.distance, for this column."""

    @model_validator(mode="after")
    def _in_order(self) -> ColumnSection:
        if self.range is not None and self.range[0] > self.range[1]:
            raise ValueError(f"needs a range that rises; {self.range[0]:g} is above {self.range[1]:g}")
        if any(low > high for low, high in zip(self.quantiles, self.quantiles[1:], strict=False)):
            raise ValueError("needs quantiles that rise")
        names = self.classes if self.classes is not None and self.type in ("number", "whole", "flag") else {}
        if wrong := [name for name in names if not is_number(name)]:
            raise ValueError(f"holds numbers, so '{wrong[0]}' cannot be a class")
        if len(self.quantiles) == 1:
            raise ValueError("needs at least two quantiles")
        return self


class Expectations(Section):
    """What data must be like."""

    format: Literal["hpctrain-expectations"]
    """Says that the file holds expectations."""
    version: Literal[1] = 1
    kind: Literal["catalogue", "spectra", "images", "light_curves"] = "catalogue"
    """What a row is."""
    files: list[Line] = []
    """The good files from which these expectations were proposed."""
    objects: Annotated[int, Field(ge=1)]
    """Number of objects in these files."""
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Largest chance that good data fail one or more checks."""
    rows: RowsSection = RowsSection()
    other_columns: Literal["allow", "refuse"] = "allow"
    """Whether files may have columns that are not below."""
    ids: IdsSection = IdsSection()
    sky: SkySection | None = None
    grid: GridSection | None = None
    errors: ErrorsSection | None = None
    drift: DriftSection = DriftSection()
    columns: Annotated[dict[str, ColumnSection], Field(min_length=1)]

    def distance_of(self, name: str) -> float:
        """Return the smallest distance that counts as drift of a column."""
        own = self.columns[name].distance
        return self.drift.distance if own is None else own


def read_expectations(path: str | Path) -> Expectations:
    """Read a file of expectations.

    Raises
    ------
    ProfileError
        The file is wrong; the message lists all problems with their lines.
    """
    document = read_plain(path)
    expected = typed(document, Expectations)
    problems = list(document.problems)
    if expected.sky is not None:
        problems += [
            document.problem(("sky", key), f"'{name}' is not among columns{did_you_mean(name, expected.columns)}")
            for key, name in (("ra", expected.sky.ra), ("dec", expected.sky.dec))
            if name not in expected.columns
        ]
    if expected.ids.column is not None and expected.ids.column not in expected.columns:
        near = did_you_mean(expected.ids.column, expected.columns)
        problems.append(document.problem(("ids", "column"), f"'{expected.ids.column}' is not among columns{near}"))
    if problems:
        raise ProfileError(document.source, sort_problems(problems))
    return expected
