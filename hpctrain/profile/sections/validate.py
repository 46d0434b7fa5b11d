"""The ``validate`` section: how the finished model is judged, and what it must reach."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hpctrain.profile.sections.base import Line, PathText, Section, Switch

METRIC_PATTERN = r"^[^.\s]+\.\S(.*\S)?$"
"""A metric of a gate is ``<task>.<metric>``: the name of a label, such as ``Z``, and what ``hpctrain validate`` calls
the metric."""

LICENCE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9.+-]{0,63}$"

RisingEdges = Annotated[list[float], Field(min_length=1, max_length=1000)]


class BinsSection(Section):
    """A column whose bins are judged one by one."""

    column: PathText
    """Column of the data files; each value of a column of texts is a bin."""
    edges: RisingEdges | None = None
    """Inner edges of the bins, in rising order; if unset, `quantiles`."""
    quantiles: Annotated[int, Field(ge=2, le=100)] | None = None
    """Number of bins with equally many objects; 5 if `edges` is unset, too."""
    log: Switch = False
    """Draw the column on a logarithmic axis."""


class SkySection(Section):
    """A map of each metric on the sky."""

    ra: PathText = "ra"
    """Column with the right ascension [deg]."""
    dec: PathText = "dec"
    """Column with the declination [deg]."""
    nside: Annotated[int, Field(ge=1, le=1024)] = 8
    """Resolution of the HEALPix map: 12 nside² cells, which for 8 are 7.3 degrees wide."""


class TargetSection(Section):
    """The population that the model is made for, if it differs from the held-out objects."""

    files: Annotated[list[PathText], Field(min_length=1)]
    """Files of the target population, in the format of `data.files`. They need no labels."""
    columns: Annotated[list[PathText], Field(min_length=1, max_length=32)]
    """Columns of numbers in which both populations are compared, such as a magnitude and colours."""
    method: Literal["neighbours", "classifier"] = "neighbours"
    """How the weights of the held-out objects are found: by counting neighbours, or by a classifier that tells both
    populations apart."""


class WhereSection(Section):
    """The objects that a gate judges: those whose value is from ``low`` to below ``high``."""

    column: PathText
    """Column of the data files with numbers."""
    low: float | None = None
    """Lowest value; if unset, there is no lower limit."""
    high: float | None = None
    """Upper limit, which does not belong to the range; if unset, there is none."""


class GateSection(Section):
    """A limit for one metric; the model passes if the metric keeps it."""

    metric: Annotated[str, Field(pattern=METRIC_PATTERN)]
    """Task and metric as in results/validation.json, such as `Z.nmad`."""
    below: float | None = None
    """The metric must be below this."""
    above: float | None = None
    """The metric must be above this."""
    use: Literal["value", "bound"] = "value"
    """``value`` compares the metric itself; ``bound`` the far end of its interval, so that chance is no excuse."""
    where: WhereSection | None = None
    """Judge only the objects in a range of a column."""
    every_bin: PathText | None = None
    """Column of `validate.bins`: the metric must keep the limit in each bin."""
    min_objects: Annotated[int, Field(ge=1)] = 30
    """Smallest number of objects to judge. Bins with fewer objects are listed, but not judged; a gate without any bin,
    or without enough objects, fails."""


class AuditSection(Section):
    """What ``hpctrain audit`` looks for between the sides of the split."""

    radius_arcsec: Annotated[float, Field(gt=0, le=60)] = 1.0
    """Largest distance on the sky of two rows of one object [arcsec]."""
    ra: PathText | None = None
    """Column with the right ascension [deg]; if unset, ``ra`` or another usual name, where the files have one."""
    dec: PathText | None = None
    """Column with the declination [deg]; if unset, ``dec`` or another usual name."""
    near_duplicates: Switch = True
    """Look for samples that differ by less than their noise, too; this takes most of the time."""
    power: Annotated[float, Field(gt=0, le=1)] = 0.98
    """Power from which one column alone predicts a label too well: 0 is chance and 1 is perfect."""
    allow: list[PathText] = []
    """Columns that you have looked at and that may predict a label or be called like one."""


class UncertaintySection(Section):
    """How calibration and uncertainty are judged."""

    conformal: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of objects whose truth may be outside of their set of classes or interval. The thresholds for it are stored
    with the model, and `hpctrain predict` writes sets and intervals. If unset, 0.1 is judged and nothing is stored."""
    sets: Literal["lac", "aps"] = "lac"
    """Sets of classes: ``lac`` gives the smallest ones, ``aps`` larger ones that adapt more to hard objects."""
    per_class: Switch = True
    """Each class has a threshold of its own, so that the sets hold the truth as often for rare classes as for common
    ones."""
    conformal_bins: PathText | None = None
    """Column of `validate.bins` with numbers: each bin has thresholds of its own."""
    outliers: Literal["neighbours", "mahalanobis"] | None = None
    """Judge how far each held-out object is from the training objects, in what the last layer of a network reads or in
    the inputs of trees: by the tenth nearest neighbour, or by the covariance of all. This needs the model and the data
    files, so it takes longer."""
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Share of objects like those of the training that `outliers` may flag."""


class AnomaliesSection(Section):
    """The objects that are known to be unusual, to judge anomaly scores."""

    column: PathText | None = None
    """Column of the data files that says what each object is; if unset, anomaly scores are not judged."""
    positive: list[Line] = []
    """Values of `column` that mean unusual; integers are written as text."""


class CardSection(Section):
    """What only you can say in the model card; the rest is measured or recorded."""

    licence: Annotated[str, Field(pattern=LICENCE_PATTERN)] | None = None
    """Licence of the model as Hugging Face writes it, such as ``cc-by-4.0`` or ``mit``."""
    authors: list[Line] = []
    """Who made the model."""
    intended_use: Line | None = None
    """What the model is for."""
    not_for: Line | None = None
    """What it must not be used for."""
    citation: Line | None = None
    """What users of the model shall cite."""


class ValidateSection(Section):
    """How the finished model is judged on held-out objects. No key of it changes the training, so a resumed run may
    change all of them."""

    at_end: Switch = False
    """Judge the model at the end of the run, before the report is written. The run counts as finished even if gates
    fail."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Share of intervals that contain the true value."""
    draws: Annotated[int, Field(ge=100, le=1_000_000)] = 1000
    """Number of bootstrap draws of objects for each interval."""
    bins: Annotated[list[BinsSection], Field(max_length=64)] = []
    """Columns in whose bins each metric is judged, too."""
    sky: SkySection | None = None
    """Maps of the metrics on the sky. If unset, there are maps where the data files have columns ``ra`` and ``dec``;
    ``sky: {}`` makes their absence an error."""
    target: TargetSection | None = None
    """Weight the held-out objects to the distribution of another population, and say where the training objects do not
    reach."""
    gates: Annotated[list[GateSection], Field(max_length=256)] = []
    """Limits of metrics; if one is not kept, the command that judges the run ends with exit code 7."""
    audit: AuditSection = AuditSection()
    uncertainty: UncertaintySection = UncertaintySection()
    anomalies: AnomaliesSection = AnomaliesSection()
    card: CardSection = CardSection()
