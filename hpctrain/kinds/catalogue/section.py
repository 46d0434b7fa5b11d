"""The ``data`` section of a profile whose samples are rows of a catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from hpctrain.profile.sections.base import PathText, Section
from hpctrain.profile.sections.data import SAMPLE_ORDER, DataSection

MODEL_INPUTS = "the model reads these columns, in this order"
"""Reason why a resumed run cannot change a key that decides what the model reads."""


class SimulateCatalogueSection(Section):
    """Objects to simulate if the files of ``data.files`` do not exist."""

    num_objects: Annotated[int, Field(ge=1)] = 4000
    """Number of objects."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Seed of the simulation."""
    depth: Annotated[float, Field(ge=15, le=30)] = 22.0
    """Magnitude with an error of 0.2 mag in the r band; fainter objects have larger errors."""


class CatalogueSection(DataSection):
    """The catalogue to use: a table with one row per object, in HDF5, FITS, CSV, text or Parquet."""

    fixed: ClassVar[Mapping[str, str]] = {
        **DataSection.fixed,
        **dict.fromkeys(("features", "differences", "errors", "missing"), MODEL_INPUTS),
        "max_objects": SAMPLE_ORDER,
    }

    from_run: PathText | None = None
    """Directory of another run whose results are the table: ``files`` is then its ``results/latents.h5``, with
    ``features: [LATENT_VEC]``, or where it has none its ``results/predictions.h5``."""
    features: Annotated[list[PathText], Field(min_length=1, max_length=10000)]
    """Columns of numbers that the model reads, such as magnitudes. A column of several numbers per object, such as
    latent vectors, gives an input for each of them: ``NAME[0]``, ``NAME[1]`` and so on."""
    differences: Annotated[list[Annotated[tuple[str, str], Field(strict=False)]], Field(max_length=10000)] = []
    """Pairs of columns of `features` whose difference the model reads too, such as ``[u, g]`` for the colour u - g."""
    errors: dict[str, PathText] = {}
    """Column with the standard deviation of a column of `features`, such as ``{u: u_err}``; the model reads it too."""
    missing: list[Annotated[float, Field(allow_inf_nan=False)]] = [-9999.0, -999.0, -99.0, 99.0, 999.0, 9999.0]
    """Numbers that mean that there is no value, in all columns of features and errors. NaN, infinity and empty cells
    are always missing; an error that is negative is missing too."""
    target_id: PathText | None = None
    """Column with the identifier of the object, which decides the side of the split. If unset, the column `target_id`
    of the files, or where a file has none, the number of the row."""
    max_objects: Annotated[int, Field(ge=1)] | None = None
    """Largest number of training objects, chosen by the hash of the identifier; if unset, all are used."""
    simulate: SimulateCatalogueSection | None = None  # type: ignore[assignment]
    """Simulate these objects if no file of `files` exists."""

    @model_validator(mode="before")
    @classmethod
    def _results_of_run(cls, values: Any) -> Any:
        """Name the files of `from_run`, unless the profile names them, as that of a run does."""
        run = values.get("from_run") if isinstance(values, dict) else None
        if not isinstance(run, str):
            return values
        latents = Path(run) / "results" / "latents.h5"
        if latents.is_file():
            return {"files": [str(latents)], "features": ["LATENT_VEC"], **values}
        return {"files": [str(latents.with_name("predictions.h5"))], **values}

    @property
    def max_samples(self) -> int | None:
        return self.max_objects

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the numbers that the model reads of each object: columns, differences, errors."""
        differences = (f"{first} - {second}" for first, second in self.differences)
        return (*self.features, *differences, *self.errors.values())

    @property
    def card_entries(self) -> dict[str, Any]:
        keys = ("features", "differences", "errors", "missing")
        return {"catalogue": self.model_dump(mode="json", include=set(keys))}
