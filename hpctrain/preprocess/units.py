"""Units at the border: arrays, or astropy quantities, come in; plain arrays in one unit go on."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpctrain.errors import DataError

UNITS = {"AA": "Angstrom"}
"""Names of units here that astropy writes differently."""


def plain(values: Any, unit: str, what: str, equivalencies: Any = ()) -> np.ndarray:
    """Return values as an array of float64 in a unit.

    Parameters
    ----------
    values : array_like or astropy.units.Quantity
        A plain array is in `unit` already.
    unit : str
        ``AA``, or the name of a unit of astropy.
    what : str
        What the values are, for the error.
    equivalencies : list
        As for :meth:`astropy.units.Quantity.to`.

    Raises
    ------
    DataError
        The unit of a quantity cannot be converted.
    """
    if not hasattr(values, "unit"):
        return np.asarray(values, dtype=np.float64)
    from astropy import units

    try:
        return np.asarray(values.to_value(units.Unit(UNITS.get(unit, unit)), list(equivalencies)), dtype=np.float64)
    except units.UnitConversionError as error:
        raise DataError(f"{what}: is in {values.unit}, which is no {unit or 'number'}") from error
