"""Guess the kind of data in an HDF5 file from the names and shapes of its datasets. No torch here."""

from __future__ import annotations

from pathlib import Path

from hpctrain.errors import DataError
from hpctrain.kinds.images.layout import OTHER_NAMES as OF_IMAGES
from hpctrain.kinds.light_curves.layout import OFFSETS, POINTS
from hpctrain.kinds.spectra.layout import OTHER_NAMES as OF_SPECTRA

SPECTRA, IMAGES, LIGHT_CURVES, CATALOGUE = "spectra", "images", "light_curves", "catalogue"


def guess_kind(path: Path) -> str:
    """Return the kind of data that a file seems to hold.

    A file that is no HDF5 counts as a catalogue: a table in FITS, CSV or another format.

    Raises
    ------
    DataError
        There is no such file, or it is damaged.
    """
    import h5py

    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    if not h5py.is_hdf5(path):
        return CATALOGUE
    try:
        with h5py.File(path, "r", locking=False) as file:
            shapes = {name: item.shape for name, item in file.items() if isinstance(item, h5py.Dataset)}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if OFFSETS in shapes and POINTS.keys() <= shapes.keys():
        return LIGHT_CURVES
    if any(len(shapes.get(name, ())) >= 3 for name in ("image", *OF_IMAGES["image"])):
        return IMAGES
    has_flux = any(len(shapes.get(name, ())) == 2 for name in ("flux", *OF_SPECTRA["flux"]))
    has_wavelength = any(name in shapes for name in ("wavelength", *OF_SPECTRA["wavelength"]))
    return SPECTRA if has_flux and has_wavelength else CATALOGUE
