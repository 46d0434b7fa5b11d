"""The ``data`` section of a profile whose samples are spectra. N spectra, L pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from hpctrain.profile.sections.base import PathText, Section, WavelengthRange
from hpctrain.profile.sections.data import SAMPLE_ORDER, DataSection


class ColumnsSection(Section):
    """Names of the datasets in the HDF5 file; the defaults are what ``hpctrain ingest`` writes."""

    flux: PathText = "flux"
    """(N, L) flux density [1e-17 erg s-1 cm-2 AA-1]."""
    ivar: PathText = "ivar"
    """(N, L) inverse variance of `flux`; 0 masks a pixel."""
    mask: PathText | None = "mask"
    """(N, L) integer or bool; nonzero masks a pixel. The file need not have it."""
    wavelength: PathText = "wavelength"
    """(L,) or (N, L) vacuum wavelength [AA]."""
    target_id: PathText = "target_id"
    """(N,) identifier of the object; all rows of one object have the same."""
    redshift: PathText = "redshift"
    """(N,) redshift."""

    optional: ClassVar[frozenset[str]] = frozenset({"mask"})
    """Datasets that the file need not have, unless the profile names them."""
    absent_redshift: ClassVar[float] = math.nan
    """Redshift of all spectra of a file without that dataset."""


class ObservedColumnsSection(ColumnsSection):
    """Names of the datasets in the HDF5 file, which need not have redshifts."""

    redshift: PathText | None = "redshift"  # type: ignore[assignment]
    """(N,) redshift. The file need not have it."""

    optional: ClassVar[frozenset[str]] = frozenset({"mask", "redshift"})


class ColumnsWithoutRedshift(ColumnsSection):
    """Names of the datasets for spectra that are read whatever their redshift, for example to estimate it."""

    redshift: None = None  # type: ignore[assignment]

    absent_redshift: ClassVar[float] = 0.0


class SimulateSection(Section):
    """Spectra to simulate if the files of ``data.files`` do not exist."""

    num_spectra: Annotated[int, Field(ge=1)] = 2000
    """Number of spectra."""
    seed: Annotated[int, Field(ge=0)] = 1
    """Seed of the simulation."""
    num_pixels: Annotated[int, Field(ge=64, le=100000)] | None = None
    """Pixels of the wavelength grid; if unset, the DESI grid of 7,781 pixels of 0.8 AA."""
    quasar_fraction: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of quasars; the others are galaxies."""
    snr_median: Annotated[float, Field(gt=0)] = 4.0
    """Median signal to noise ratio per 0.8 AA pixel over the set."""


class NormaliseSection(Section):
    """Division by the median flux of a rest-frame window that is free of strong lines."""

    windows_aa: Annotated[list[WavelengthRange], Field(min_length=1)] = [
        (5300.0, 5850.0),
        (2500.0, 2700.0),
        (1600.0, 1800.0),
        (1450.0, 1470.0),
    ]
    """Rest-frame windows [AA]; the first one that is wholly inside the observed range is used (spender, SpenderQ)."""
    min_snr: Annotated[float, Field(ge=0)] = 2.0
    """Spectra whose window has a lower signal to noise ratio get weight 0 and are counted."""


class ObservedNormaliseSection(Section):
    """Division by the median flux of the observed spectrum, which needs no redshift."""

    frame: Literal["observed"] = "observed"
    """Windows are in the observed frame."""
    by: Literal["median", "none"] = "median"
    """``none`` leaves the flux as it is, for spectra whose continuum was divided out."""
    windows_aa: Annotated[list[WavelengthRange], Field(min_length=1)] | None = None
    """Observed windows [AA] whose pixels together give the median; null uses the whole spectrum."""
    min_snr: Annotated[float, Field(ge=0)] = 0.0
    """Spectra whose median has a lower signal to noise ratio get weight 0 and are counted. A median that is not
    positive is never used."""


def read_normalisation(values: Mapping[str, Any]) -> NormaliseSection | ObservedNormaliseSection:
    """Return the section ``normalise`` of a model's card."""
    section = ObservedNormaliseSection if values.get("frame") == "observed" else NormaliseSection
    return section.model_validate_json(json.dumps(values))


class ObservedAugmentSection(Section):
    """Random changes of the training spectra; evaluation uses the unchanged spectra."""

    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Extra noise in units of the pixel's own sigma; ivar decreases accordingly. 0 switches it off."""
    mask_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of pixels hidden from the network in contiguous blocks. 0 switches it off."""

    redshift_shift: ClassVar[float] = 0.0
    """A label such as the redshift would no longer be right."""


class AugmentSection(Section):
    """Random changes of the training spectra; evaluation uses the unchanged spectra."""

    redshift_shift: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Largest random change of the redshift; pixels that leave the grid get weight 0. 0 switches it off."""
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Extra noise in units of the pixel's own sigma; ivar decreases accordingly. 0 switches it off."""
    mask_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of pixels hidden from the encoder in contiguous blocks; the loss still uses them. 0 switches it off."""


class SpectraSection(DataSection):
    """The spectra to use, and how to read them."""

    fixed: ClassVar[Mapping[str, str]] = {
        **DataSection.fixed,
        "normalise": "the network has learned spectra that were normalised this way",
        "max_spectra": SAMPLE_ORDER,
    }

    columns: ColumnsSection = ColumnsSection()
    simulate: SimulateSection | None = None
    """Simulate these spectra if no file of `files` exists."""
    bad_pixels: Literal["mask", "error"] = "mask"
    """For a pixel whose flux is not finite, or whose ivar is negative or not finite: ``mask`` gives it weight 0 and
    counts it; ``error`` ends the run and names file, row and object."""
    implausible: Literal["error", "warn"] = "error"
    """For spectra whose noise contradicts their ivar (sigma or variance stored as ivar, other units): ``error`` ends
    the run before its first step; ``warn`` trains on them."""
    normalise: NormaliseSection = NormaliseSection()
    augment: AugmentSection = AugmentSection()
    max_spectra: Annotated[int, Field(ge=1)] | None = None
    """Largest number of training spectra, chosen by the hash of the object id; if unset, all are used."""

    needs_redshift: ClassVar[bool] = True
    """Whether a spectrum without a redshift carries no weight."""

    @property
    def max_samples(self) -> int | None:
        return self.max_spectra

    @property
    def refuses_bad_values(self) -> bool:
        return self.bad_pixels == "error"

    def unwritten_keys(self) -> list[tuple[str, ...]]:
        # A written key would require a dataset that may be absent.
        return [("columns", name) for name in sorted(self.columns.optional - self.columns.model_fields_set)]

    @property
    def card_entries(self) -> dict[str, Any]:
        return {"normalise": self.normalise.model_dump(mode="json")}


class ObservedSpectraSection(SpectraSection):
    """The spectra to use, for models that need no redshift: a spectrum without one is used like any other."""

    columns: ObservedColumnsSection = ObservedColumnsSection()  # type: ignore[assignment]
    normalise: ObservedNormaliseSection = ObservedNormaliseSection()  # type: ignore[assignment]
    augment: ObservedAugmentSection = ObservedAugmentSection()  # type: ignore[assignment]

    needs_redshift: ClassVar[bool] = False
