"""From columns of a catalogue to magnitudes: asinh magnitudes of fluxes, and extinction. N objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.errors import DataError
from hpctrain.preprocess.extinction import band_extinction
from hpctrain.preprocess.photometry import asinh_magnitude, asinh_magnitude_error

if TYPE_CHECKING:
    from hpctrain.kinds.catalogue.section import CatalogueSection
    from hpctrain.profile.judge import Judge


def to_magnitudes(
    values: Mapping[str, np.ndarray], data: CatalogueSection, read: Callable[[str], np.ndarray]
) -> dict[str, np.ndarray]:
    """Return columns in which fluxes are asinh magnitudes, and magnitudes are free of extinction.

    Parameters
    ----------
    values : mapping of str to ndarray, shape (N,)
        Columns of features and errors; NaN where a value is missing.
    data : CatalogueSection
    read : callable
        Returns another column of the table.

    Raises
    ------
    DataError
        There is no column of E(B-V), or no coefficient of a band.
    """
    found = dict(values)
    for name, scale in data.asinh_magnitudes.items():
        found[name] = asinh_magnitude(values[name], scale.softening, scale.zero_point)
        if name in data.errors:
            error = data.errors[name]
            found[error] = asinh_magnitude_error(values[name], values[error], scale.softening)
    if data.extinction is not None:
        ebv = read(data.extinction.ebv)
        for name, coefficient in data.extinction.coefficients.items():
            found[name] = found[name] - extinction_of(coefficient, ebv)
    return found


def extinction_of(coefficient: float | str, ebv: np.ndarray) -> np.ndarray:
    """Return the extinction [mag] for E(B-V) (N,) and a coefficient, or a band such as ``sdss.u``.

    Raises
    ------
    DataError
        There are no coefficients for this band.
    """
    if isinstance(coefficient, str):
        system, _, band = coefficient.partition(".")
        return band_extinction(ebv, band, system)
    return coefficient * ebv


def check_magnitudes(judge: Judge) -> None:
    """Report asinh magnitudes and extinction of columns that the model does not read, and unknown bands."""
    data = judge.profile.data
    coefficients = {} if data.extinction is None else data.extinction.coefficients
    for key, names in {"asinh_magnitudes": data.asinh_magnitudes, "extinction.coefficients": coefficients}.items():
        for name in names:
            if name not in data.features:
                judge.problem(f"'{name}' is not one of data.features", f"data.{key}.{name}", "data.features")
    for name, coefficient in coefficients.items():
        try:
            extinction_of(coefficient, np.zeros(0))
        except DataError as error:
            judge.problem(str(error), f"data.extinction.coefficients.{name}")
