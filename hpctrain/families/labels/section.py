"""One entry of ``model.labels``: a column of the files that the model learns, and how. No torch here."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hpctrain.profile.sections.base import PathText, Section, Switch

NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_]{0,63}$"
"""Names become columns of the predictions."""

CLASS, VALUE, CIRCULAR, DENSITY = "class", "value", "circular", "density"

MOST_CLASSES = 1000
"""Largest number of classes; a column with more different values is probably an identifier."""

Number = Annotated[float, Field(allow_inf_nan=False)]


class BalanceSection(Section):
    """Weights of objects in the loss, by cells of columns such as a magnitude and a colour."""

    columns: Annotated[list[PathText], Field(min_length=1, max_length=4)]
    """Datasets (N,) of numbers that span the cells."""
    bins: Annotated[int, Field(ge=2, le=100)] = 10
    """Cells along each column, of equal width between its 1st and its 99th percentile."""
    largest: Annotated[float, Field(ge=1, le=1000)] = 10.0
    """Largest weight of an object, in units of the smallest one; so a single odd object decides nothing."""
    edges: list[list[Number]] | None = None
    """Inner edges of the cells of each column; unset, those of the training samples."""
    weights: list[Annotated[float, Field(ge=0)]] | None = None
    """Weight of each cell, those of the last column first; unset, from the numbers of training samples."""


class LabelSection(Section):
    """A column that the model learns."""

    column: PathText
    """Dataset (N,) of the files: numbers or texts for a class, numbers for the other kinds."""
    kind: Literal["class", "value", "circular", "density"]
    """``class``: one of several; ``value``: a number with a Gaussian uncertainty; ``circular``: a number with a period,
    such as an angle or a phase; ``density``: a number whose probability density may have several peaks, such as a
    redshift."""
    name: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    """First part of the names of the predicted columns; if unset, the last part of `column`."""
    unit: Annotated[str, Field(max_length=64)] = ""
    """Unit of the column as astropy writes it, such as `K`; the predicted columns have it."""
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Weight of this label in the loss."""
    error: PathText | None = None
    """Dataset (N,) with the standard deviation of the label, in its unit. A label with a large error counts less; one
    whose error is negative or not finite does not count."""
    missing: list[str | float | int] = []
    """Values that mean that there is no label, beside NaN, an empty text, and -1 in integers that are classes."""
    classes: Annotated[list[str], Field(min_length=2, max_length=MOST_CLASSES)] | None = None
    """The classes, for ``kind: class``; other values of the column do not count. If unset, all values of the training
    samples. Integers are written as text."""
    min_count: Annotated[int, Field(ge=1)] = 1
    """Smallest number of training samples of a class, for ``kind: class`` without `classes`; samples of rarer classes
    do not count."""
    class_weights: Literal["none", "balanced"] | Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2)] = (
        "none"
    )
    """Weights of the classes in the loss, for ``kind: class``: ``balanced`` gives all classes together the same weight;
    a list has one weight for each of `classes`."""
    balance: BalanceSection | None = None
    """Give all cells of some columns about the same weight in the loss, so that bright or red objects do not decide
    everything; metrics count every object once."""
    log10: Switch = False
    """Learn the logarithm of the column, for ``kind: value``; predictions and metrics are in the unit of the column."""
    centre: Number | None = None
    """Value that the network learns as 0, for ``kind: value`` (after `log10`); if unset, the median of the training
    samples."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """Difference that the network learns as 1, for ``kind: value``; if unset, the robust scatter of the training
    samples."""
    period: Annotated[float, Field(gt=0)] | None = None
    """Period of ``kind: circular``, such as 360 for degrees."""
    range: Annotated[tuple[Number, Number], Field(strict=False)] | None = None
    """Lowest and highest value of the grid of ``kind: density``; labels outside do not count. If unset, the range of
    the training samples."""
    bins: Annotated[int, Field(ge=8, le=20000)] = 256
    """Number of bins of this grid."""
    spacing: Literal["linear", "log1p"] = "linear"
    """Bins of ``kind: density`` are equal in the value, or in ln(1 + value), as redshifts need; then residuals are
    divided by 1 + value too."""
    calibration: Literal["temperature", "isotonic", "none"] = "temperature"
    """What is fitted to the held-out labels at the end: one number (``temperature``: of the probabilities of classes
    and densities, or the factor of the errors of values and angles), also a monotone map of the probability of each
    class or of the cumulated probability of a density (``isotonic``), or nothing."""
    outlier: Annotated[float, Field(gt=0)] | None = None
    """Residual beyond which a prediction counts as an outlier, for ``spacing: log1p`` after division by 1 + value. If
    unset, five times the robust scatter of the residuals."""

    only_for: ClassVar[dict[str, tuple[str, ...]]] = {
        "classes": (CLASS,),
        "min_count": (CLASS,),
        "class_weights": (CLASS,),
        "log10": (VALUE,),
        "centre": (VALUE,),
        "scale": (VALUE,),
        "period": (CIRCULAR,),
        "range": (DENSITY,),
        "bins": (DENSITY,),
        "spacing": (DENSITY,),
        "outlier": (VALUE, CIRCULAR, DENSITY),
        "error": (VALUE, CIRCULAR, DENSITY),
    }
    """Keys that have a meaning for some kinds only."""

    @property
    def title(self) -> str:
        """First part of the names of the predicted columns."""
        return self.name or self.column.rsplit("/", 1)[-1]


Labels = Annotated[list[LabelSection], Field(max_length=64)]
"""Type of the key ``labels`` in the section of a family."""

LABELS_ARE_FIXED = "the last layer of the network has an output for each of them"
"""Reason why a resumed run cannot change ``model.labels``."""
