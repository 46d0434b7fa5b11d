"""Fluxes in any unit to 1e-17 erg s-1 cm-2 AA-1, errors of any kind to inverse variances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.units import EXAMPLES, RELATIVE, parse_unit

TARGET = "1e-17 erg / (s cm2 Angstrom)"


@dataclass(frozen=True)
class FluxScale:
    """How numbers become fluxes in the unit of hpctrain.

    Parameters
    ----------
    unit : str
        Of the numbers; empty or ``relative`` if they have none.
    is_known : bool
        The file or the user states the unit (or says that there is none).
    """

    unit: str = ""
    is_known: bool = True

    def factor(self, wavelength_aa: np.ndarray) -> np.ndarray | float:
        """Return what to multiply the numbers with, a number or shape (L,).

        Parameters
        ----------
        wavelength_aa : ndarray, shape (L,)
            Vacuum wavelengths [AA], for units per frequency or per photon.

        Raises
        ------
        DataError
            The unit is not one of flux density.
        """
        if self.is_relative:
            return self._relative_factor()
        factor = _density_factor(parse_unit(self.unit), wavelength_aa)
        if factor is None:
            raise DataError(
                f"flux: unit '{self.unit}' is not one of flux density; --flux-unit {RELATIVE} keeps the numbers as "
                f"they are, another unit replaces it: {EXAMPLES}"
            )
        return factor

    @property
    def is_relative(self) -> bool:
        """Whether the flux has no physical unit: none, a plain number, counts or electrons."""
        from astropy import units

        if self.unit.strip().lower() in ("", RELATIVE):
            return True
        unit = parse_unit(self.unit)
        counts = (units.count, units.electron, units.adu, units.DN, units.count / units.s, units.electron / units.s)
        return unit.is_equivalent(units.dimensionless_unscaled) or any(unit.is_equivalent(each) for each in counts)

    def _relative_factor(self) -> float:
        from astropy import units

        if self.unit.strip().lower() in ("", RELATIVE):
            return 1.0
        unit = parse_unit(self.unit)
        return float(unit.to(units.dimensionless_unscaled)) if unit.is_equivalent(units.dimensionless_unscaled) else 1.0


def as_ivar(values: np.ndarray, role: str) -> np.ndarray:
    """Return inverse variances, float64; 0 where a pixel has no usable error.

    Parameters
    ----------
    values : ndarray
        As the file holds them.
    role : {"error", "variance", "ivar"}
        What they are.
    """
    values = np.asarray(values, dtype=np.float64)
    power = {"error": -2.0, "variance": -1.0, "ivar": 1.0}[role]
    usable = np.isfinite(values) & (values > 0)
    with np.errstate(all="ignore"):
        ivar = np.where(usable, values, 1.0) ** power
    return np.where(usable & np.isfinite(ivar), ivar, 0.0)


def factor_of_noise(role: str, unit: str, flux: FluxScale, wavelength_aa: np.ndarray) -> np.ndarray | float:
    """Return what to multiply an inverse variance in a file's units with.

    Parameters
    ----------
    role : {"error", "variance", "ivar"}
    unit : str
        Unit that the file states for the errors; empty for that of the flux.
    flux : FluxScale
    wavelength_aa : ndarray, shape (L,)

    Raises
    ------
    DataError
        The unit does not fit that of the flux.
    """
    factor = _sigma_factor(role, unit, flux, wavelength_aa)
    return 1.0 / np.square(factor)


def _sigma_factor(role: str, unit: str, flux: FluxScale, wavelength_aa: np.ndarray) -> np.ndarray | float:
    """Return what to multiply one standard deviation in a file's units with."""
    if not unit or flux.is_relative:
        return flux.factor(wavelength_aa)
    parsed = parse_unit(unit) ** {"error": 1.0, "variance": 0.5, "ivar": -0.5}[role]
    if FluxScale(unit).is_relative:
        return flux.factor(wavelength_aa)
    factor = _density_factor(parsed, wavelength_aa)
    if factor is None:
        raise DataError(
            f"{role}: unit '{unit}' does not fit the flux's unit '{flux.unit}'; --flux-unit states that of the flux, "
            "and errors are then taken to be in the same"
        )
    return factor


def _density_factor(unit: Any, wavelength_aa: np.ndarray) -> np.ndarray | float | None:
    """Return the factor from a unit of flux density to that of hpctrain, or None for other units."""
    from astropy import units

    target = parse_unit(TARGET)
    if unit.is_equivalent(target):
        return float(unit.to(target))
    try:
        ones = np.ones(len(wavelength_aa))
        return unit.to(target, ones, equivalencies=units.spectral_density(wavelength_aa * units.Angstrom))
    except units.UnitConversionError:
        return None


def assumed_ivar(flux: np.ndarray, snr: float) -> np.ndarray:
    """Return the same inverse variance for all pixels of a spectrum, for a signal-to-noise ratio.

    Parameters
    ----------
    flux : ndarray, shape (N, L)
        NaN where nothing was observed.
    snr : float
        Median absolute flux of a spectrum divided by the standard deviation of a pixel.

    Returns
    -------
    ndarray, shape (N, L), float64
        0 where nothing was observed, and in spectra whose median flux is 0.
    """
    seen = np.isfinite(flux)
    size = _median(np.abs(flux), seen)
    sigma = np.where(size > 0, size, np.inf)[:, None] / snr
    return np.where(seen, sigma**-2.0, 0.0)


def measured_ivar(flux: np.ndarray) -> np.ndarray:
    """Return the same inverse variance for all pixels of a spectrum, measured by the differences of its pixels.

    Parameters
    ----------
    flux : ndarray, shape (N, L)
        NaN where nothing was observed.

    Returns
    -------
    ndarray, shape (N, L), float64
        0 where nothing was observed, and in spectra that have no noise.

    References
    ----------
    .. [1] Stoehr et al. 2008, ASP Conf. Ser. 394, 505 (DER_SNR): 1.482602 / sqrt(6) median |2 f_i - f_(i-2) - f_(i+2)|.
       It is right for noise that is not correlated between pixels two apart.
    """
    seen = np.isfinite(flux)
    differences = np.abs(2 * flux[:, 2:-2] - flux[:, :-4] - flux[:, 4:])
    sigma = 1.482602 / np.sqrt(6.0) * _median(differences, np.isfinite(differences))
    return np.where(seen & (sigma > 0)[:, None], np.where(sigma > 0, sigma, 1.0)[:, None] ** -2.0, 0.0)


def without_empty_ends(flux: np.ndarray) -> np.ndarray:
    """Return the flux with NaN where it is exactly 0 from either end on: no spectrum was observed there.

    Parameters
    ----------
    flux : ndarray, shape (N, L), float64
    """
    filled = flux != 0
    begun = np.maximum.accumulate(filled, axis=1)
    goes_on = np.maximum.accumulate(filled[:, ::-1], axis=1)[:, ::-1]
    return np.where(begun & goes_on, flux, np.nan)


def _median(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return the median of the good values of each row, 0 for rows without any."""
    ordered = np.sort(np.where(good, values, np.inf), axis=1)
    middle = np.maximum(good.sum(axis=1) - 1, 0) // 2
    median = ordered[np.arange(len(ordered)), middle] if ordered.shape[1] else np.zeros(len(ordered))
    return np.where(np.isfinite(median), median, 0.0)
