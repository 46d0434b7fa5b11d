"""What a user says about files of spectra: which of their names is which quantity, in which unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PIXEL_ROLES = ("flux", "wavelength", "error", "ivar", "variance", "mask", "good")
"""Quantities with a value per pixel. ``mask`` is nonzero in bad pixels, ``good`` in good ones."""

NOISE_ROLES = ("error", "ivar", "variance")

NOTHING = "none"
"""Theirs, for a quantity that is not to be taken although the file has it: ``mask=none``."""

RESERVED = frozenset({"provenance", "source_file", "source_row", "num_exposures"})
"""Columns of the output that hpctrain fills itself."""

USUAL_NAMES = {
    "flux": ("flux", "spectrum_flux", "flux_density", "flam", "f_lambda", "fnu", "f_nu", "spectrum", "spec"),
    "wavelength": (
        "wavelength", "wave", "lambda", "lam", "spectrum_lambda", "wavelengths", "wavelength_aa", "wl",
        "loglam", "loglambda", "log_wave", "log_lambda", "spectral_axis",
    ),
    "error": (
        "error", "err", "sigma", "flux_err", "flux_error", "fluxerr", "e_flux", "uncertainty", "flux_sigma", "errors",
        "sig", "flux_unc", "unc",
    ),
    "ivar": ("ivar", "flux_ivar", "spectrum_ivar", "invvar", "inverse_variance"),
    "variance": ("variance", "var", "flux_var", "flux_variance"),
    "mask": ("mask", "spectrum_mask", "mask_array", "flux_mask"),
    "good": (),
}  # fmt: skip
"""Names, in lower case, by which a quantity per pixel is recognised without being named."""

LOGARITHMS = ("loglam", "loglambda", "log_wave", "log_lambda")
"""Names of wavelength columns that hold log10 of Angstrom unless their unit says something else."""

USUAL_LABELS = {
    "target_id": ("target_id", "targetid", "object_id", "objid"),
    "redshift": ("redshift", "z", "z_helio", "zbest"),
    "redshift_error": ("redshift_error", "z_err", "zerr", "zbesterr"),
    "zwarn": ("zwarn", "zwarning"),
    "spectype": ("spectype", "class"),
    "ra": ("ra", "target_ra", "plug_ra", "raj2000"),
    "dec": ("dec", "target_dec", "plug_dec", "dej2000", "decj2000"),
    "mjd": ("mjd",),
}
"""Names, in lower case, of columns (not of header keywords) that are taken without being named."""


@dataclass(frozen=True)
class Mapping:
    """The options of ``hpctrain ingest fits``, ``hdf5``, ``table`` and ``any``.

    Parameters
    ----------
    columns : dict of str
        Ours: theirs. Ours is one of `PIXEL_ROLES`, a column of :data:`hpctrain.ingest.block.COLUMNS`, or any other
        name, under which the values are carried along. Theirs is a name in the file, with ``HDU:`` before it or
        ``[k]`` behind it where needed, or ``header:KEYWORD``.
    values : dict of str
        Ours: a constant for every spectrum.
    flux_unit, wavelength_unit : str
        Units that replace those of the file; empty to believe the file. ``relative`` keeps the flux as it is.
    medium : {"", "vacuum", "air"}
        What the wavelengths are; empty to believe the file.
    hdu : str
        HDU to look in first, by name or number; FITS only.
    along : {"auto", "rows", "columns"}
        Whether a spectrum is a row or a column of a two-dimensional array; ``auto`` compares with the wavelengths.
    assumed_snr : float, optional
        Spectra have no errors: give each pixel the median absolute flux of its spectrum divided by this.
    measure_noise : bool
        Spectra have no errors: measure the noise of each one by the differences of its pixels.
    missing : tuple of float
        Values of labels that mean 'not known', such as -9999.
    loader : str
        Name of the specutils loader; empty lets specutils find it.
    part : int, optional
        The only one to read of several spectrum objects that specutils finds in a file, from 0.
    """

    columns: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    flux_unit: str = ""
    wavelength_unit: str = ""
    medium: Literal["", "vacuum", "air"] = ""
    hdu: str = ""
    along: Literal["auto", "rows", "columns"] = "auto"
    assumed_snr: float | None = None
    measure_noise: bool = False
    missing: tuple[float, ...] = ()
    loader: str = ""
    part: int | None = None

    @property
    def makes_errors(self) -> bool:
        """Whether the user asked for errors that the file does not have."""
        return self.measure_noise or self.assumed_snr is not None
