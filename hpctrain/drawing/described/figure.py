"""What a figure shows, as plain values that a JSON file can hold.

:func:`figure` makes the description, :func:`read_figure` reads one, :func:`hpctrain.drawing.described.draw.draw_figure`
draws it. A number that is not finite is None.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Number = Annotated[float, Field(allow_inf_nan=False)] | None
Numbers = list[Number]
"""Values along an axis; None where there is none."""
Bound = Annotated[float, Field(allow_inf_nan=False)]
_Any = TypeVar("_Any", bound="Described")


class Described(BaseModel):
    """A part of the description of a figure."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Axis(Described):
    """An axis; without `low` and `high` it is as long as the values."""

    label: str = ""
    low: Number = None
    high: Number = None
    log: bool = False


class Axes(Described):
    """The axes of a figure."""

    x: Axis = Axis()
    y: Axis = Axis()


class Line(Described):
    """A line, with a band around it if it has `low` and `high`."""

    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    name: str = ""
    """Name in the legend; a line without a name is not in it."""
    style: Literal["line", "reference", "faint"] = "line"
    """``reference`` is dashed: an ideal, or a limit."""

    @model_validator(mode="after")
    def _same_lengths(self) -> Line:
        parts = [part for part in (self.x, self.y, self.low, self.high) if part is not None]
        return _of_one_length(self, parts, "x, y, low and high")


class Cells(Described):
    """Numbers of points in the cells of a grid, for more points than a page can show."""

    x: tuple[Bound, Bound, Annotated[int, Field(ge=1, le=512)]]
    """Lower edge, upper edge, number of cells; on a logarithmic axis the cells are equal in the logarithm."""
    y: tuple[Bound, Bound, Annotated[int, Field(ge=1, le=512)]]
    filled: list[tuple[int, int, int]]
    """Place along x, place along y, and number of points of each cell that is drawn as a cell."""


class Cloud(Described):
    """Points, cells of many points, and lines."""

    x: Numbers = []
    y: Numbers = []
    cells: Cells | None = None
    lines: list[Line] = []

    @model_validator(mode="after")
    def _same_lengths(self) -> Cloud:
        return _of_one_length(self, [self.x, self.y], "x and y")


class Lower(Cloud):
    """Points below a scatter plot, against the same x axis: mostly the residuals."""

    axis: Axis = Axis()


class ScatterData(Cloud):
    """Points of a scatter plot."""

    lower: Lower | None = None


class Series(Described):
    """Numbers in bins."""

    values: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    num: list[int] | None = None
    """Number of objects in each bin."""
    name: str = ""

    @model_validator(mode="after")
    def _same_lengths(self) -> Series:
        parts = [part for part in (self.values, self.low, self.high, self.num) if part is not None]
        return _of_one_length(self, parts, "values, low, high and num")


class Mark(Described):
    """A dashed line at a value."""

    value: Bound
    name: str = ""


class HistogramData(Described):
    """Numbers of samples between edges."""

    edges: Annotated[list[Bound], Field(min_length=2)]
    series: Annotated[list[Series], Field(min_length=1)]
    expected: Numbers | None = None
    """Number that is expected in each bin; with `expected_low` and `expected_high` where chance may take it."""
    expected_low: Numbers | None = None
    expected_high: Numbers | None = None
    marks: list[Mark] = []
    """Vertical lines."""

    @model_validator(mode="after")
    def _same_lengths(self) -> HistogramData:
        optional = (self.expected, self.expected_low, self.expected_high)
        parts = [*(part.values for part in self.series), *(part for part in optional if part is not None)]
        return _of_one_length(self, [self.edges[1:], *parts], "edges (less one) and what is between them")


class CurveData(Described):
    """Lines."""

    lines: list[Line]


class MatrixData(Described):
    """Counts by row and column, such as a confusion of classes."""

    rows: list[str]
    columns: list[str]
    counts: list[list[int]]
    row_label: str = ""
    column_label: str = ""

    @model_validator(mode="after")
    def _same_lengths(self) -> MatrixData:
        _of_one_length(self, [self.rows, self.counts], "rows and counts")
        return _of_one_length(self, [self.columns, *self.counts], "columns and each row of counts")


class BarsData(Described):
    """Numbers with intervals, side by side: one per name, or one per bin between `edges`."""

    names: list[str]
    series: Annotated[list[Series], Field(min_length=1)]
    edges: list[Bound] | None = None
    """Edges of the bins on the x axis; if unset, the names are side by side."""
    marks: list[Mark] = []
    """Horizontal lines, such as the value of all objects together."""
    flagged: list[int] = []
    """Places of names whose numbers differ from the others by more than chance."""

    @model_validator(mode="after")
    def _same_lengths(self) -> BarsData:
        _of_one_length(self, [self.names, *(part.values for part in self.series)], "names and values")
        return self if self.edges is None else _of_one_length(self, [self.edges[1:], self.names], "edges and names")


class SkyCell(Described):
    """A cell of the sky."""

    corners: Annotated[list[tuple[Bound, Bound]], Field(min_length=3)]
    """Right ascension and declination of the corners, in order [deg]."""
    value: Number
    num: int = 0
    flagged: bool = False


class SkyData(Described):
    """A number in each cell of the sky."""

    cells: list[SkyCell]
    label: str = ""
    unit: str = ""
    around: Number = None
    """Value in the middle of the scale of colours, such as 0 for a bias; if unset, the scale covers the values."""


class TableData(Described):
    """Texts and numbers in rows."""

    heads: list[str]
    rows: list[list[str | int | Bound | None]]

    @model_validator(mode="after")
    def _same_lengths(self) -> TableData:
        return _of_one_length(self, [self.heads, *self.rows], "heads and each row")


DATA: dict[str, type[Described]] = {
    "scatter": ScatterData,
    "histogram": HistogramData,
    "curve": CurveData,
    "matrix": MatrixData,
    "bars": BarsData,
    "sky": SkyData,
    "table": TableData,
}
"""Kinds of figures, and what their data are made of."""


class Figure(Described):
    """A figure.

    Notes
    -----
    ``key`` is unique on a page, such as ``Z.truth``; the part before the dot says which figures belong together.
    """

    KINDS: ClassVar[tuple[str, ...]] = tuple(DATA)

    key: Annotated[str, Field(min_length=1, max_length=200)]
    title: str
    caption: str = ""
    kind: Literal["scatter", "histogram", "curve", "matrix", "bars", "sky", "table"]
    axes: Axes = Axes()
    data: ScatterData | HistogramData | CurveData | MatrixData | BarsData | SkyData | TableData
    wide: bool = False
    """Whether it takes the width of the page; else two are side by side."""

    @model_validator(mode="before")
    @classmethod
    def _data_of_the_kind(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("data"), dict) and values.get("kind") in DATA:
            return {**values, "data": DATA[values["kind"]].model_validate(values["data"])}
        return values


def figure(key: str, title: str, kind: str, data: dict[str, Any], caption: str = "", **more: Any) -> dict[str, Any]:
    """Return the description of a figure as plain values for JSON.

    Parameters
    ----------
    key, title, kind, caption : str
        As of :class:`Figure`.
    data : dict
        What the class of this kind in `DATA` has; arrays and numbers of numpy are fine, and what is not finite becomes
        None.
    **more
        ``axes`` (a dict of ``x`` and ``y``) and ``wide``.

    Raises
    ------
    pydantic.ValidationError
        The description has other parts, or parts of different lengths.
    """
    values = {"key": key, "title": title, "caption": caption, "kind": kind, "data": plain(data), **plain(more)}
    return Figure.model_validate(values).model_dump(mode="json", exclude_defaults=True)


def read_figure(values: Any) -> Figure:
    """Return a figure from plain values.

    Raises
    ------
    ValueError
        They describe no figure.
    """
    return Figure.model_validate(values)


def plain(value: Any) -> Any:
    """Return arrays as lists, numbers of numpy as those of Python, and None for numbers that are not finite."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


def _of_one_length(described: _Any, parts: list[Any], names: str) -> _Any:
    if len({len(part) for part in parts}) > 1:
        raise ValueError(f"{names} have different lengths: {', '.join(str(len(part)) for part in parts)}")
    return described
