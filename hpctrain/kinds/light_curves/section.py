"""The ``data`` section of a profile whose samples are light curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from hpctrain.kinds.light_curves.statistics import statistics_columns
from hpctrain.profile.sections.base import PathText, Section
from hpctrain.profile.sections.data import SAMPLE_ORDER, DataSection

MODEL_INPUTS = "the network has learned light curves that were read this way"
"""Reason why a resumed run cannot change a key that decides what the model reads."""


class SimulateCurvesSection(Section):
    """Light curves to simulate if the files of ``data.files`` do not exist."""

    num_curves: Annotated[int, Field(ge=1)] = 3000
    """Number of light curves."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Seed of the simulation."""
    num_days: Annotated[float, Field(ge=10, le=10000)] = 400.0
    """Length of the survey [day]."""
    points_per_band: Annotated[float, Field(ge=3, le=2000)] = 25.0
    """Mean number of points of a curve in each band."""


class AugmentCurvesSection(Section):
    """Random changes of the training curves; evaluation uses the unchanged curves."""

    cut: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the curves of which only the first part is shown, up to a random time, so that the model learns to
    classify early. 0 switches it off."""
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Points are hidden at random: of each curve a share between 0 and this one. 0 switches it off."""
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Extra noise in units of the point's own error, which grows accordingly. 0 switches it off."""


class LightCurveSection(DataSection):
    """The light curves to use, and how to read them."""

    fixed: ClassVar[Mapping[str, str]] = {
        **DataSection.fixed,
        **dict.fromkeys(("bands", "max_points", "long", "normalise", "fold", "features", "statistics"), MODEL_INPUTS),
        **dict.fromkeys(("max_curves", "buckets"), SAMPLE_ORDER),
    }

    bands: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=1000)]
    """Bands that the model reads, such as ``[g, r]``; points in other bands are left out. A file need not have all."""
    max_points: Annotated[int, Field(ge=8, le=65536)] = 512
    """Largest number of points of a curve that the model sees."""
    long: Literal["thin", "first", "last"] = "thin"
    """What is kept of longer curves: points spread evenly over all of it, the first ones, or the last ones."""
    min_points: Annotated[int, Field(ge=1)] = 3
    """Curves with fewer points carry no weight."""
    normalise: Literal["curve", "band", "none"] = "curve"
    """Values minus the mean of the curve, or of each band of the curve, divided by the scatter of the curve; or as they
    are in the file."""
    fold: PathText | None = None
    """Column with the period of each curve [day]; the model then sees the phase of each point too."""
    features: Annotated[list[PathText], Field(max_length=1000)] = []
    """Columns of one number per curve that the model reads beside the points."""
    statistics: Literal["none", "plain", "periodic"] = "none"
    """Statistics of each curve that the model reads beside the points, from the columns that ``hpctrain ingest
    light-curves --statistics`` writes: ``plain`` ones, such as skewness and scatter, or with ``periodic``, for which it
    needs ``--periods``, also periods and harmonics."""
    augment: AugmentCurvesSection = AugmentCurvesSection()
    bad_points: Literal["mask", "error"] = "mask"
    """For a point whose time or value is not finite, or whose error is not above 0: ``mask`` leaves it out and counts
    it; ``error`` ends the run and names file, row and object."""
    max_curves: Annotated[int, Field(ge=1)] | None = None
    """Largest number of training curves, chosen by the hash of the object id; if unset, all are used."""
    buckets: Annotated[int, Field(ge=0, le=4096)] = 0
    """Batches within which the curves are sorted by their number of points and cut into batches again, in random order,
    so that a batch has little padding. 0 sorts none."""
    simulate: SimulateCurvesSection | None = None  # type: ignore[assignment]
    """Simulate these light curves if no file of `files` exists."""

    @property
    def max_samples(self) -> int | None:
        return self.max_curves

    @property
    def all_features(self) -> tuple[str, ...]:
        """Columns of `features` and of `statistics`, without repetition."""
        return tuple(dict.fromkeys([*self.features, *statistics_columns(self.statistics, self.bands)]))

    @property
    def sorted_batches(self) -> int:
        return self.buckets

    @property
    def refuses_bad_values(self) -> bool:
        return self.bad_points == "error"

    @property
    def card_entries(self) -> dict[str, Any]:
        keys = ("bands", "max_points", "long", "min_points", "normalise", "fold", "features", "statistics")
        return {"light_curves": self.model_dump(mode="json", include=set(keys))}
