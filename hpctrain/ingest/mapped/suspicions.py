"""Can the units be right? Sizes and noise of some spectra, before thousands are written in a wrong unit."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from hpctrain.ingest.mapped.convert import Converted, Raw
from hpctrain.ingest.mapped.resolve import Layout
from hpctrain.kinds.spectra.noise import judge_noise

NAMES = {"ivar": "the inverse variance", "sigma": "the standard deviation", "variance": "the variance"}
ROLES = {"ivar": "ivar", "sigma": "error", "variance": "variance"}
"""What :func:`hpctrain.kinds.spectra.noise.judge_noise` calls the quantities, and what ``--column`` does."""

TINY_FLUX = 1e-8
"""Fluxes in units of 1e-17 erg s-1 cm-2 AA-1 below this are of no telescope; 1e-17 is 1e-17 of them."""

HUGE_FLUX = 1e8
MOST_SIGMA_DEX = 2.0
"""Departure of the variance of the noise from the errors [dex] that is doubtful: a factor of 10 in sigma."""


@dataclass(frozen=True)
class Suspicion:
    """Something that is probably wrong.

    Parameters
    ----------
    is_error : bool
        Nothing says otherwise, so reading stops; else it is a warning.
    text : str
        What was found, what it looks like, and the option that changes it.
    """

    is_error: bool
    text: str


def suspect_wavelengths(raw: np.ndarray, layout: Layout) -> Suspicion | None:
    """Judge wavelengths by their size.

    Parameters
    ----------
    raw : ndarray, shape (L,)
        As the file holds them.
    layout : Layout
    """
    values = np.asarray(raw, dtype=np.float64)
    values = values[np.isfinite(values) & (values > 0)]
    if layout.scale.logarithm or not len(values):
        return None
    low, high = float(values.min()), float(values.max())
    unit = layout.scale.unit
    if layout.scale.unit_known:
        wavelength = layout.scale.to_vacuum_aa(values)
        low_aa, high_aa = float(np.nanmin(wavelength)), float(np.nanmax(wavelength))
        if low_aa < 10 or high_aa > 1e7:
            text = (
                f"wavelength: {low:g} to {high:g} {unit} are {low_aa:g} to {high_aa:g} AA; is the unit right? "
                f"--wavelength-unit replaces it{_guess(low, high)}"
            )
            return Suspicion(False, text)
        return None
    guess = _guess(low, high)
    if not guess:
        return None
    is_certain = not 900 <= low <= high < 3000
    return Suspicion(
        is_certain,
        f"wavelength: {low:g} to {high:g} without a unit{guess}. --wavelength-unit AA if they are Angstrom after all",
    )


def _guess(low: float, high: float) -> str:
    if low >= 2.9 and high <= 4.7:
        return "; this looks like log10 of Angstrom: --wavelength-unit 'log10(AA)'"
    if low >= 7.0 and high <= 10.5:
        return "; this looks like the natural logarithm of Angstrom: --wavelength-unit 'ln(AA)'"
    if high < 50:
        return "; this looks like micrometres: --wavelength-unit um"
    if low >= 50 and high < 3000:
        return "; this looks like nanometres: --wavelength-unit nm"
    return ""


def suspect_flux(converted: Converted, layout: Layout) -> Suspicion | None:
    """Judge fluxes by their size, shape (n, L)."""
    good = (converted.ivar > 0) & np.isfinite(converted.flux) & (converted.flux != 0)
    if not good.any():
        return None
    size = float(np.median(np.abs(converted.flux[good])))
    if layout.flux_scale.is_known and not layout.flux_scale.is_relative:
        if TINY_FLUX <= size <= HUGE_FLUX:
            return None
        return Suspicion(
            False,
            f"flux: the median is {size:.2g} x 1e-17 erg s-1 cm-2 AA-1 with the unit '{layout.flux_scale.unit}'; is "
            "the unit right? --flux-unit replaces it",
        )
    if size >= TINY_FLUX:
        return None
    looks = "erg s-1 cm-2 Hz-1" if size < 1e-22 else "erg s-1 cm-2 AA-1"
    return Suspicion(
        True,
        f"flux: the median is {size:.2g} without a unit; this looks like {looks}: --flux-unit '{looks}'. If it is a "
        "relative flux, scale it: --flux-unit 1e17 multiplies by 1e17",
    )


def suspect_noise(samples: list[tuple[Raw, Layout]]) -> Suspicion | None:
    """Compare the noise in the flux with the errors of the files, which may hold another quantity than their name says.

    Parameters
    ----------
    samples : list of (Raw, Layout)
        Spectra of some files; those of the most common length are judged.
    """
    samples = [(raw, layout) for raw, layout in samples if raw.noise is not None]
    if not samples:
        return None
    lengths = [raw.flux.shape[1] for raw, _ in samples]
    length = max(set(lengths), key=lengths.count)
    chosen = [(raw, layout) for raw, layout in samples if raw.flux.shape[1] == length]
    layout = chosen[0][1]
    flux = np.concatenate([np.asarray(raw.flux, dtype=np.float64) for raw, _ in chosen])
    errors = np.concatenate([np.asarray(raw.noise, dtype=np.float64) for raw, _ in chosen])
    bad = np.concatenate([raw.bad for raw, _ in chosen]) | ~np.isfinite(flux) | ~np.isfinite(errors) | (errors <= 0)
    held_as = next(name for name, role in ROLES.items() if role == layout.noise_role)
    noise = judge_noise(np.where(bad, 0.0, flux), np.where(bad, 0.0, errors), held_as)
    if noise is None:
        return None
    name = layout.noise.name
    if noise.looks_like != held_as:
        return Suspicion(
            False,
            f"{layout.noise_role}: by the noise in the flux, {name} holds {NAMES[noise.looks_like]}, not "
            f"{NAMES[held_as]}; --column {ROLES[noise.looks_like]}={name} reads it so",
        )
    if abs(noise.departure_dex) > MOST_SIGMA_DEX:
        factor = 10 ** (abs(noise.departure_dex) / 2)
        word = "larger" if noise.departure_dex > 0 else "smaller"
        return Suspicion(
            False,
            f"{layout.noise_role}: the noise in the flux is {factor:.0f} times {word} than {name} says; are they in "
            "the same unit?",
        )
    return None


def suspect_arms(parts: list[Raw]) -> Suspicion | None:
    """Say that the parts of a file look like arms of a spectrograph, which are not merged here.

    They do if they have the same number of spectra and mostly different wavelengths.
    """
    if len(parts) < 2 or len({len(part.flux) for part in parts}) > 1:
        return None
    ends = sorted((float(np.nanmin(part.wavelength)), float(np.nanmax(part.wavelength))) for part in parts)
    for (low, high), (next_low, next_high) in itertools.pairwise(ends):
        if high - next_low > 0.5 * min(high - low, next_high - next_low):
            return None
    listed = " and ".join(f"{low:g} to {high:g}" for low, high in ends)
    return Suspicion(
        False,
        f"parts of the file have as many spectra each, at {listed}; if they are arms of the same objects, they become "
        "spectra of their own. `hpctrain ingest desi` merges those of DESI; --part N reads one of them",
    )
