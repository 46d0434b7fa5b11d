"""Files of any format that specutils has a loader for.

References
----------
.. [1] https://specutils.readthedocs.io/en/stable/spectrum_lists.html and the list of loaders there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.stores.store import Item, Store

_MEANINGS = {"StdDevUncertainty": "error", "VarianceUncertainty": "variance", "InverseVariance": "ivar"}


class SpecutilsStore(Store):
    """One spectrum object of specutils: ``flux``, ``wavelength``, ``error`` (or ``variance``, ``ivar``), ``mask``.

    Parameters
    ----------
    spectrum : specutils.Spectrum
    number : int
        Its number in the file.
    num_parts : int
        How many spectrum objects the file has.
    """

    def __init__(self, spectrum: Any, number: int, num_parts: int = 1) -> None:
        super().__init__()
        self.kind = "read by specutils"
        if num_parts > 1:
            self.kind += f", object {number} of {num_parts} (--part {number} reads only this)"
        self._arrays: dict[str, np.ndarray] = {}
        self._add("flux", spectrum.flux)
        self._add("wavelength", spectrum.spectral_axis)
        uncertainty = spectrum.uncertainty
        if uncertainty is not None:
            name = _MEANINGS.get(type(uncertainty).__name__)
            if name:
                self._add(name, uncertainty.quantity)
        if spectrum.mask is not None:
            self._add("mask", np.asarray(spectrum.mask))
        header = spectrum.meta.get("header", spectrum.meta)
        self.header = {str(key): value for key, value in dict(header).items() if isinstance(value, (str, int, float))}

    def close(self) -> None:
        """Do nothing: the whole spectrum is in memory."""

    def read(self, item: Item, rows: slice | None = None) -> np.ndarray:
        """Return an array or some of its rows."""
        values = self._arrays[item.place]
        return values if rows is None else values[rows]

    def _add(self, name: str, quantity: Any) -> None:
        values = np.asarray(getattr(quantity, "value", quantity))
        unit = getattr(quantity, "unit", None)
        self._arrays[name] = values
        self.items[name] = Item(name, values.shape, unit.to_string() if unit is not None else "", place=name)


def import_specutils() -> Any:
    """Return ``specutils``.

    Raises
    ------
    DataError
        specutils is not installed; the message says how to install it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import specutils
    except ImportError as error:
        raise DataError(
            f"'hpctrain ingest any' needs specutils ({error}): pip install 'hpctrain[specutils]'"
        ) from error
    return specutils


def open_spectra(path: Path, loader: str, part: int | None = None) -> Iterator[SpecutilsStore]:
    """Yield the spectrum objects of a file.

    Parameters
    ----------
    path : Path
    loader : str
        Name of the loader; empty lets specutils find it.
    part : int, optional
        The only one to take of several spectrum objects.

    Raises
    ------
    DataError
        No loader recognises the file, or the loader fails.
    """
    specutils = import_specutils()
    if path.stat().st_size == 0:
        raise DataError("is empty")
    options = {"format": loader} if loader else {}
    spectra, problems = None, []
    # Most formats hold one spectrum, but loaders of lists know more of them.
    for kind in (specutils.SpectrumList, specutils.Spectrum):
        try:
            spectra = kind.read(str(path), **options)
            break
        except Exception as error:  # loaders are plug-ins, which raise whatever their format makes them raise
            problems.append(str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__)
    if spectra is None:
        raise DataError(f"specutils cannot read it: {problems[-1]}")
    many = spectra if isinstance(spectra, list) else [spectra]
    if not many:
        raise DataError("specutils finds no spectrum in it")
    if part is not None and part >= len(many):
        raise DataError(f"specutils finds {len(many)} spectrum objects in it, so there is no --part {part}")
    for number, spectrum in enumerate(many):
        if part is None or number == part:
            yield SpecutilsStore(spectrum, number, len(many))
