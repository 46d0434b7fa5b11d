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


_INPUT_KEYS = ("features", "asinh_magnitudes", "extinction", "differences", "errors", "missing")
"""Keys that decide what the model reads."""


class SimulateCatalogueSection(Section):
    """Objects to simulate if the files of ``data.files`` do not exist."""

    num_objects: Annotated[int, Field(ge=1)] = 4000
    """Number of objects."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Seed of the simulation."""
    depth: Annotated[float, Field(ge=15, le=30)] = 22.0
    """Magnitude with an error of 0.2 mag in the r band; fainter objects have larger errors."""


class AsinhSection(Section):
    """How a column of fluxes becomes asinh magnitudes (Lupton, Gunn & Szalay 1999)."""

    softening: Annotated[float, Field(gt=0)]
    """Flux b below which the magnitudes are linear in the flux, in the unit of the column: about the error of a faint
    flux."""
    zero_point: float = 22.5
    """Magnitude of a flux of 1 in the unit of the column; 22.5 for nanomaggies."""


Band = Annotated[str, Field(pattern=r"^[a-z0-9]+\.[A-Za-z]$")]
"""A band as ``system.band``."""


class ExtinctionSection(Section):
    """Extinction by the dust of our Galaxy, which is subtracted from magnitudes."""

    ebv: PathText
    """Column with E(B-V) [mag] of the map of Schlegel, Finkbeiner & Davis (1998), as it is."""
    coefficients: Annotated[dict[str, float | Band], Field(min_length=1)]
    """Column of magnitudes to the band it is in (``sdss.u``, ``ps1.g``, ``des.r``, ``lsst.y``, ``landolt.V``:
    coefficients of Schlafly & Finkbeiner 2011), or to the extinction in it for an E(B-V) of 1."""


class CatalogueSection(DataSection):
    """The catalogue to use: a table with one row per object, in HDF5, FITS, CSV, text or Parquet."""

    fixed: ClassVar[Mapping[str, str]] = {
        **DataSection.fixed,
        **dict.fromkeys(_INPUT_KEYS, MODEL_INPUTS),
        **dict.fromkeys(("max_objects", "max_rows"), SAMPLE_ORDER),
    }

    from_run: PathText | None = None
    """Directory of another run whose results are the table: ``files`` is then its ``results/latents.h5``, with
    ``features: [LATENT_VEC]``, or where it has none its ``results/predictions.h5``."""
    features: Annotated[list[PathText], Field(min_length=1, max_length=10000)]
    """Columns of numbers that the model reads, such as magnitudes. A column of several numbers per object, such as
    latent vectors, gives an input for each of them: ``NAME[0]``, ``NAME[1]`` and so on."""
    asinh_magnitudes: dict[str, AsinhSection] = {}
    """Columns of `features` that are fluxes and become asinh magnitudes, which are finite for negative fluxes too; the
    `errors` of these columns become errors of the magnitudes."""
    extinction: ExtinctionSection | None = None
    """Subtract the extinction by dust from magnitudes, before differences are taken."""
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
    max_rows: Annotated[int, Field(ge=1)] | None = None
    """Largest number of rows that are read into memory, of all files together, for training and evaluation. The hash of
    the identifier chooses them; if unset, all are read."""
    simulate: SimulateCatalogueSection | None = None  # type: ignore[assignment]
    """Simulate these objects if no file of `files` exists."""

    @model_validator(mode="before")
    @classmethod
    def _results_of_run(cls, values: Any) -> Any:
        """Name the files of `from_run`, unless the profile names them, as that of a run does."""
        run = values.get("from_run") if isinstance(values, dict) else None
        if not isinstance(run, str):
            return values
        results = Path(run) / "results"
        others = (results / "predictions.h5").is_file() and not (results / "latents.h5").is_file()
        file = results / ("predictions.h5" if others else "latents.h5")
        return {"files": [str(file)], "features": ["LATENT_VEC"], **values}

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
        return {"catalogue": self.model_dump(mode="json", include=set(_INPUT_KEYS))}
