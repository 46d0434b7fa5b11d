"""From the numbers of a file to vacuum wavelengths, fluxes and inverse variances, for spectra of one grid at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hpctrain.ingest.block import group_by_wavelength
from hpctrain.ingest.mapped.fluxes import as_ivar, assumed_ivar, factor_of_noise, measured_ivar, without_empty_ends
from hpctrain.ingest.mapped.mapping import Mapping
from hpctrain.ingest.mapped.resolve import Layout

ROWS_AT_ONCE = 256
FALLING = "wavelengths neither increase nor decrease throughout"
TOO_FEW = "fewer than 2 pixels with a wavelength"


@dataclass
class Raw:
    """Spectra of one grid as the file holds them.

    Parameters
    ----------
    rows : ndarray, shape (n,), int64
        Rows of the file.
    wavelength : ndarray, shape (L,)
    flux : ndarray, shape (n, L)
    noise : ndarray, shape (n, L), optional
    bad : ndarray, shape (n, L), bool
    """

    rows: np.ndarray
    wavelength: np.ndarray
    flux: np.ndarray
    noise: np.ndarray | None
    bad: np.ndarray


@dataclass
class Converted:
    """Spectra of one grid in the units of hpctrain; `reason` says why they cannot be used.

    Parameters
    ----------
    wavelength_aa : ndarray, shape (L,), float64
        In vacuum, increasing.
    flux, ivar : ndarray, shape (n, L), float64
    reason : str
    """

    wavelength_aa: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    reason: str = ""


def read_raw(layout: Layout) -> Iterator[Raw]:
    """Yield the spectra of a file, a few hundred at a time, those of one grid together."""
    if layout.arrangement.kind == "single":
        yield _single(layout)
        return
    num_spectra = layout.arrangement.num_spectra
    for begin in range(0, num_spectra, ROWS_AT_ONCE):
        yield from _some_rows(layout, slice(begin, min(begin + ROWS_AT_ONCE, num_spectra)))


def convert(raw: Raw, layout: Layout, mapping: Mapping) -> Converted:
    """Bring spectra of one grid to vacuum wavelengths, to the unit of hpctrain, and their errors to inverse variances.

    Parameters
    ----------
    raw : Raw
    layout : Layout
    mapping : Mapping
    """
    wavelength = layout.scale.to_vacuum_aa(raw.wavelength)
    pixels = np.flatnonzero(np.isfinite(wavelength))
    nothing = np.zeros((len(raw.rows), 0))
    if len(pixels) < 2:
        return Converted(np.zeros(0), nothing, nothing, TOO_FEW)
    if wavelength[pixels[-1]] < wavelength[pixels[0]]:
        pixels = pixels[::-1]
    wavelength = wavelength[pixels]
    if np.any(np.diff(wavelength) <= 0):
        return Converted(np.zeros(0), nothing, nothing, FALLING)
    flux = np.asarray(raw.flux, dtype=np.float64)[:, pixels] * layout.flux_scale.factor(wavelength)
    bad = raw.bad[:, pixels]
    if raw.noise is None:
        seen = np.where(bad, np.nan, without_empty_ends(flux))
        ivar = measured_ivar(seen) if mapping.measure_noise else assumed_ivar(seen, mapping.assumed_snr or 1.0)
    else:
        unit = "" if mapping.flux_unit or layout.noise is None else layout.noise.item.unit
        factor = factor_of_noise(layout.noise_role, unit, layout.flux_scale, wavelength)
        ivar = as_ivar(raw.noise[:, pixels], layout.noise_role) * factor
    return Converted(wavelength, flux, np.where(bad, 0.0, ivar))


def _single(layout: Layout) -> Raw:
    num_pixels = layout.arrangement.num_pixels
    flux = np.asarray(layout.flux.read()).reshape(1, num_pixels)
    noise = None if layout.noise is None else np.asarray(layout.noise.read()).reshape(1, num_pixels)
    bad = np.zeros((1, num_pixels), dtype=bool)
    for role, field in layout.masks.items():
        bad |= _is_bad(np.asarray(field.read()).reshape(1, num_pixels), role)
    return Raw(np.zeros(1, dtype=np.int64), _grid_of_all(layout), flux, noise, bad)


def _grid_of_all(layout: Layout) -> np.ndarray:
    if layout.wavelength is not None:
        return np.asarray(layout.wavelength.read(), dtype=np.float64).reshape(-1)
    return layout.axis.values(layout.arrangement.num_pixels)


def _some_rows(layout: Layout, rows: slice) -> Iterator[Raw]:
    numbers = np.arange(rows.start, rows.stop)
    flux = _read(layout, layout.flux, rows)
    noise = None if layout.noise is None else _read(layout, layout.noise, rows)
    masks = {role: _read(layout, field, rows) for role, field in layout.masks.items()}
    wavelength = None if layout.wavelength is None else layout.wavelength
    own_grids = wavelength is not None and (wavelength.item.is_ragged or len(wavelength.shape) > 1)
    if wavelength is not None and wavelength.shape[:1] == (1,) and layout.arrangement.num_spectra > 1:
        own_grids = False
    if not own_grids and not layout.flux.item.is_ragged:
        bad = np.zeros(np.shape(flux), dtype=bool)
        for role, values in masks.items():
            bad |= _is_bad(np.asarray(values), role)
        yield Raw(numbers, _grid_of_all(layout), np.asarray(flux), None if noise is None else np.asarray(noise), bad)
        return
    grids = _read(layout, wavelength, rows)
    vectors = [np.asarray(each, dtype=np.float64) for each in grids]
    for common, members in group_by_wavelength(vectors):
        yield _stacked(numbers[members], common, members, flux, noise, masks)


def _stacked(
    numbers: np.ndarray,
    common: np.ndarray,
    members: np.ndarray,
    flux: np.ndarray,
    noise: np.ndarray | None,
    masks: dict,
) -> Raw:
    """Stack rows of one grid; a row whose vectors differ in length has only bad pixels."""
    shape = (len(members), len(common))
    stacked, bad = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
    errors = None if noise is None else np.full(shape, np.nan)
    for place, member in enumerate(members):
        row = np.asarray(flux[member], dtype=np.float64)
        if row.shape != common.shape or (noise is not None and np.shape(noise[member]) != common.shape):
            bad[place] = True
            continue
        stacked[place] = row
        if errors is not None:
            errors[place] = noise[member]
        for role, values in masks.items():
            bad[place] |= _is_bad(np.asarray(values[member]), role)
    return Raw(numbers, common, stacked, errors, bad)


def _read(layout: Layout, field: object, rows: slice) -> np.ndarray:
    """Return some spectra of an array that has one per row or per column, or one row for all."""
    shape, arrangement = field.shape, layout.arrangement
    if field.item.is_ragged:
        return field.read(rows)
    if len(shape) == 1 or (shape[0] == 1 and arrangement.num_spectra > 1):
        return np.broadcast_to(np.asarray(field.read()).reshape(-1), (rows.stop - rows.start, arrangement.num_pixels))
    if arrangement.kind == "columns":
        return field.read().T[rows]
    return field.read(rows)


def _is_bad(values: np.ndarray, role: str) -> np.ndarray:
    # A value that is not a number is not known to be good.
    number = np.nan_to_num(values.astype(np.float64), nan=1.0 if role == "mask" else 0.0)
    return number != 0 if role == "mask" else number == 0
