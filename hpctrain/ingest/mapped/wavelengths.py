"""Wavelengths of pixels: from a column or from a header, in any unit, linear or logarithmic, in air or in vacuum."""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.units import parse_unit, split_logarithm
from hpctrain.preprocess.wavelength import air_to_vacuum


@dataclass(frozen=True)
class Scale:
    """How numbers become vacuum wavelengths.

    Parameters
    ----------
    unit : str
        Of the numbers, or of what they are the logarithm of. Frequencies and energies are possible.
    logarithm : {"", "log10", "ln"}
    is_air : bool
    unit_known : bool
        The file or the user states the unit; otherwise Angstrom is assumed.
    medium_known : bool
        The file or the user states whether wavelengths are in air; otherwise vacuum is assumed.
    """

    unit: str = "Angstrom"
    logarithm: str = ""
    is_air: bool = False
    unit_known: bool = True
    medium_known: bool = True

    def to_vacuum_aa(self, values: np.ndarray) -> np.ndarray:
        """Return vacuum wavelengths [AA] of any shape, float64; numbers that are none become NaN.

        Raises
        ------
        DataError
            The unit is not one of wavelength, frequency, energy or wavenumber.
        """
        from astropy import units

        values = np.asarray(values, dtype=np.float64)
        unit = parse_unit(self.unit)
        with np.errstate(all="ignore"):
            if self.logarithm:
                # 10^x of padding such as -1 or 0 would look like a wavelength.
                values = np.where(values > 0, values, np.nan)
                values = 10.0**values if self.logarithm == "log10" else np.exp(values)
            try:
                wavelength = np.asarray(unit.to(units.Angstrom, values, equivalencies=units.spectral()))
            except units.UnitConversionError as error:
                raise DataError(
                    f"wavelength: unit '{self.unit}' is none of a wavelength, a frequency or an energy; "
                    "--wavelength-unit nm, um, AA, 'log10(AA)', Hz, eV ... replaces it"
                ) from error
            wavelength = np.where(np.isfinite(wavelength) & (wavelength > 0), wavelength, np.nan)
            return air_to_vacuum(wavelength) if self.is_air else wavelength


def scale_of_column(name: str, stated: str, given: str, medium: str, logarithms: tuple[str, ...]) -> Scale:
    """Return the scale of a column of wavelengths.

    Parameters
    ----------
    name : str
        Of the column; ``loglam`` and the like hold logarithms if no unit says otherwise.
    stated, given : str
        Unit by the file, and by the user; empty where there is none.
    medium : {"", "vacuum", "air"}
        By the user.
    logarithms : tuple of str
        Names of columns that hold logarithms.
    """
    text = given or stated
    bare = name.lower().rpartition(":")[2].rpartition("/")[2]
    logarithm, unit = split_logarithm(text) if text else ("", "")
    known = bool(text)
    if not given and not logarithm and bare in logarithms:
        logarithm, unit, known = "log10", unit or "Angstrom", True
    return Scale(unit or "Angstrom", logarithm, medium == "air", known, bool(medium))


@dataclass(frozen=True)
class HeaderAxis:
    """Wavelengths by the header of an image.

    Parameters
    ----------
    start, step : float
        Number of the first pixel, and the difference of neighbours, in the units of `scale`.
    scale : Scale
    text : str
        The keywords that were used, for people.
    """

    start: float
    step: float
    scale: Scale
    text: str

    def values(self, num_pixels: int) -> np.ndarray:
        """Return the numbers of all pixels, shape (num_pixels,), float64."""
        return self.start + self.step * np.arange(num_pixels)


def axis_of_header(cards: Dictionary[str, Any] | None, given: str, medium: str) -> HeaderAxis | None:
    """Return the wavelengths that a header gives, or None if it gives none.

    Parameters
    ----------
    cards : dict or None
        ``CRVAL``, ``CDELT`` (or ``CD``), ``CRPIX``, ``CTYPE``, ``CUNIT`` of the axis without its number, and
        ``DC-FLAG``, ``COEFF0``, ``COEFF1``, ``VACUUM``, ``AIRORVAC``.
    given : str
        Unit by the user; empty to believe the header.
    medium : {"", "vacuum", "air"}
        By the user.

    Raises
    ------
    DataError
        The axis is described in a way that is not read here.

    References
    ----------
    .. [1] Greisen et al. 2006, A&A 446, 747 (FITS paper III): CTYPE of spectral axes, AWAV for air, -LOG.
    .. [2] Valdes 1993, IRAF: DC-FLAG 1 is log10 of the wavelength.
    """
    if not cards:
        return None
    kind = str(cards.get("CTYPE", "")).strip().upper()
    if "COEFF0" in cards and "COEFF1" in cards:
        start, step = float(cards["COEFF0"]), float(cards["COEFF1"])
        scale = _scale(given or "log10(Angstrom)", True, kind, cards, medium)
        return HeaderAxis(start, step, scale, "COEFF0, COEFF1")
    if kind.startswith("MULTISPE") or kind.endswith(("-TAB", "-GRI", "-GRA")):
        raise DataError(
            f"CTYPE is {kind}, a non-linear axis; `hpctrain ingest any` reads it if specutils does, or name the column "
            "that holds wavelengths: --column wavelength=HDU:NAME"
        )
    if "CRVAL" not in cards or "CDELT" not in cards:
        return None
    step = float(cards["CDELT"])
    reference = float(cards["CRVAL"])
    start = reference + (1.0 - float(cards.get("CRPIX", 1.0))) * step
    unit = str(cards.get("CUNIT", "")).strip()
    text = "CRVAL, CDELT"
    if kind.endswith("-LOG") and not given:
        # Paper III: lambda = CRVAL exp(w / CRVAL), with w in the unit of CRVAL.
        offset = np.log(reference) + (start - reference) / reference
        scale = _scale(f"ln({unit or 'Angstrom'})", bool(unit), kind, cards, medium)
        return HeaderAxis(offset, step / reference, scale, f"{text}, CTYPE {kind}")
    is_log10 = str(cards.get("DC-FLAG", 0)).strip() in ("1", "1.0") or "LOG" in kind
    if is_log10 and not given:
        inner = "Angstrom" if "log" in unit.lower() or not unit else unit
        return HeaderAxis(start, step, _scale(f"log10({inner})", True, kind, cards, medium), f"{text}, log10")
    return HeaderAxis(start, step, _scale(given or unit, bool(given or unit), kind, cards, medium), text)


def _scale(text: str, known: bool, kind: str, cards: Dictionary[str, Any], medium: str) -> Scale:
    logarithm, unit = split_logarithm(text) if text else ("", "")
    stated = _medium(kind, cards)
    is_air = (medium or stated) == "air"
    return Scale(unit or "Angstrom", logarithm, is_air, known, bool(medium or stated))


def _medium(kind: str, cards: Dictionary[str, Any]) -> str:
    """Return what a header says about air and vacuum, or an empty text."""
    if "VACUUM" in cards:
        return "vacuum" if str(cards["VACUUM"]).strip().upper() in ("T", "TRUE", "1") else "air"
    word = str(cards.get("AIRORVAC", "")).strip().lower()
    if word in ("air", "vac", "vacuum"):
        return "air" if word == "air" else "vacuum"
    if kind.startswith("AWAV"):
        return "air"
    return "vacuum" if kind.startswith(("WAVE-", "FREQ", "ENER", "WAVN")) or kind == "WAVE" else ""
