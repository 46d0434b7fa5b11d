"""How spectra are arranged in the arrays of a file: one per file, per row, per column, or one below the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.stores.store import Field


@dataclass(frozen=True)
class Arrangement:
    """How spectra are arranged.

    Parameters
    ----------
    kind : {"single", "rows", "columns", "ragged"}
        One spectrum in a vector (or several below each other, which the target ids tell apart), one per row, one per
        column, or one per row with lengths of their own.
    num_spectra : int
        1 for ``single``.
    num_pixels : int
        0 for ``ragged``.
    """

    kind: Literal["single", "rows", "columns", "ragged"]
    num_spectra: int
    num_pixels: int

    @property
    def text(self) -> str:
        """The arrangement in words."""
        return {
            "single": "one spectrum per file",
            "rows": "one spectrum per row",
            "columns": "one spectrum per column",
            "ragged": "one spectrum per row, each with its own number of pixels",
        }[self.kind]


def arrange(flux: Field, wavelength: Field | None, along: Literal["auto", "rows", "columns"]) -> Arrangement:
    """Find out how spectra are arranged.

    Parameters
    ----------
    flux : Field
    wavelength : Field or None
        None if the header of an image gives the wavelengths.
    along : {"auto", "rows", "columns"}
        By the user.

    Raises
    ------
    DataError
        The shapes do not fit, or there are more than two axes.
    """
    shape = flux.shape
    if flux.item.is_ragged:
        return Arrangement("ragged", shape[0], 0)
    if len(shape) == 0:
        raise DataError(f"flux: {flux.name} is a single number")
    if len(shape) > 2:
        raise DataError(
            f"flux: {flux.name} has {len(shape)} axes {shape}, like a cube; choose a plane of its first axis with "
            f"{flux.name}[0], {flux.name}[1], ..."
        )
    length = None if wavelength is None or len(wavelength.shape) != 1 else wavelength.shape[0]
    if len(shape) == 1:
        if length is not None and length != shape[0]:
            raise DataError(f"{flux.name} has {shape[0]} pixels, {wavelength.name} has {length}; they must be equal")
        return Arrangement("single", 1, shape[0])
    kind = along
    if kind == "auto":
        kind = "columns" if length is not None and length == shape[0] != shape[1] else "rows"
    num_spectra, num_pixels = shape if kind == "rows" else shape[::-1]
    if length is not None and length != num_pixels:
        raise DataError(
            f"{flux.name} has shape {shape}, {wavelength.name} has {length} pixels; one axis of the flux must be as "
            "long as the wavelengths"
        )
    if wavelength is not None and len(wavelength.shape) > 1 and wavelength.shape not in (shape, (1, num_pixels)):
        raise DataError(f"{flux.name} has shape {shape}, {wavelength.name} has {wavelength.shape}; they must be equal")
    return Arrangement(kind, num_spectra, num_pixels)


def shape_problem(role: str, field: Field, flux: Field, arrangement: Arrangement) -> str:
    """Return why errors or a mask do not fit the flux, or an empty text."""
    try:
        shape = field.shape
    except DataError as error:
        return f"{role}: {error}"
    if shape == flux.shape and field.item.is_ragged == flux.item.is_ragged:
        return ""
    if not flux.item.is_ragged and shape in ((arrangement.num_pixels,), (1, arrangement.num_pixels)):
        return ""
    return f"{role}: {field.name} has shape {shape}, {flux.name} has {flux.shape}; they must be equal"


def fits_labels(ours: str, field: Field, arrangement: Arrangement) -> str:
    """Return why a column does not have one value per spectrum (or per pixel of a single one), or an empty text."""
    if field.item.is_ragged:
        return f"{ours}: {field.name} has vectors; a label is one value per spectrum"
    shape = tuple(size for size in field.shape if size != 1) if arrangement.num_spectra != 1 else field.shape
    allowed: list[tuple[int, ...]] = [(), (1,), (arrangement.num_spectra,)]
    if arrangement.kind == "single":
        allowed.append((arrangement.num_pixels,))
    if shape in allowed:
        return ""
    return (
        f"{ours}: {field.name} has shape {field.shape}; it needs one value per spectrum, and there are "
        f"{arrangement.num_spectra}"
    )
