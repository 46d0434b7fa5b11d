"""FITS files: image HDUs by number or name, columns of tables by name, keywords of headers."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.stores.known import better_command, recognise
from hpctrain.ingest.mapped.stores.store import Item, Store

AXIS_CARDS = ("CRVAL", "CRPIX", "CDELT", "CTYPE", "CUNIT")
WHOLE_CARDS = ("DC-FLAG", "COEFF0", "COEFF1", "VACUUM", "AIRORVAC", "WAT0_001")


class FitsStore(Store):
    """An opened FITS file.

    Columns are named ``COLUMN`` (those of `hdu`, else of the first table that has one of the name) and
    ``HDU:COLUMN``; images are named by the number of their HDU, or by its name.

    Parameters
    ----------
    path : Path
    hdu : str
        HDU whose columns and keywords come first, by number or name; empty for none.

    Raises
    ------
    DataError
        The file is empty, or has no such HDU.
    """

    kind = "FITS"

    def __init__(self, path: Path, hdu: str = "") -> None:
        from astropy.io import fits

        super().__init__()
        if path.stat().st_size == 0:
            raise DataError("is empty")
        self._hdus = fits.open(path, memmap=not path.name.endswith((".gz", ".bz2")))
        try:
            self._preferred = self._number(hdu) if hdu else None
            order = list(range(len(self._hdus)))
            if self._preferred is not None:
                order.insert(0, order.pop(self._preferred))
            for number in order:
                self._add(number)
            self._order = order
            survey, self.defaults = recognise(self)
            self.kind = f"{survey} FITS" if survey else "FITS"
            self.advice = better_command(self)
        except BaseException:
            self._hdus.close()
            raise

    @functools.cached_property
    def header(self) -> dict[str, Any]:
        """Keywords of all HDUs; those of the preferred one, and of the first, count most."""
        merged: dict[str, Any] = {}
        for number in self._order:
            for key, value in self._hdus[number].header.items():
                if isinstance(value, (str, int, float)) and key not in ("", "COMMENT", "HISTORY", "XTENSION"):
                    merged.setdefault(key, value)
        return merged

    def header_value(self, keyword: str) -> Any:
        """Return a keyword of the first HDU that has it; reading all keywords takes ten times as long."""
        for number in self._order:
            value = self._hdus[number].header.get(keyword)
            if isinstance(value, (str, int, float)):
                return value
        return None

    def close(self) -> None:
        """Close the file."""
        self._hdus.close()

    def read(self, item: Item, rows: slice | None = None) -> np.ndarray:
        """Return the values of an image or a column in this machine's byte order."""
        number, column = item.place
        data = self._hdus[number].data
        values = data if column is None else data[column]
        values = values if rows is None else values[rows]
        if item.is_ragged:
            vectors = np.empty(len(values), dtype=object)
            for row, each in enumerate(values):
                vectors[row] = np.asarray(each)
            return vectors
        values = np.asarray(values)
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))

    def axis(self, item: Item, numpy_axis: int) -> dict[str, Any] | None:
        """Return the cards of an axis (numbered from the last in numpy, from 1 in FITS) and those of the whole file."""
        if not item.is_image:
            return None
        header, axis = self._hdus[item.place[0]].header, len(item.shape) - numpy_axis
        cards = {name: header[f"{name}{axis}"] for name in AXIS_CARDS if f"{name}{axis}" in header}
        if f"CD{axis}_{axis}" in header:
            cards["CDELT"] = header[f"CD{axis}_{axis}"]
        elif f"PC{axis}_{axis}" in header and "CDELT" in cards:
            cards["CDELT"] = cards["CDELT"] * header[f"PC{axis}_{axis}"]
        cards |= {name: header[name] for name in WHOLE_CARDS if name in header}
        return cards

    def _number(self, hdu: str) -> int:
        if hdu.isdecimal() and int(hdu) < len(self._hdus):
            return int(hdu)
        names = [each.name.lower() for each in self._hdus]
        if hdu.lower() in names:
            return names.index(hdu.lower())
        there = ", ".join(f"{number} {each.name}".strip() for number, each in enumerate(self._hdus))
        raise DataError(f"--hdu {hdu}: no such HDU; there are {there[:400]}")

    def _add(self, number: int) -> None:
        from astropy.io import fits

        hdu = self._hdus[number]
        aliases = [str(number), hdu.name] if hdu.name else [str(number)]
        if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU)) and not isinstance(hdu, fits.CompImageHDU):
            for column in hdu.columns:
                ragged = str(column.format).lstrip("0123456789")[:1] in ("P", "Q")
                item = self._column_item(number, column, ragged)
                for name in (column.name, *(f"{alias}:{column.name}" for alias in aliases)):
                    self.items.setdefault(name, item)
        elif hdu.is_image and hdu.shape:
            unit = str(hdu.header.get("BUNIT", "")).strip()
            name = str(number) if number == 0 or not hdu.name else hdu.name
            item = Item(name, tuple(hdu.shape), unit, is_image=True, place=(number, None))
            for alias in aliases:
                self.items.setdefault(alias, item)

    def _column_item(self, number: int, column: Any, ragged: bool) -> Item:
        hdu = self._hdus[number]
        inner = () if ragged else hdu.columns.dtype[column.name].shape
        if column.dim and not ragged:
            dims = tuple(int(size) for size in re.findall(r"\d+", str(column.dim)))[::-1]
            # The first of FITS' dimensions of text is its length.
            inner = dims[:-1] if "A" in str(column.format) else dims
        name = f"{number}:{column.name}" if column.name in self.items else column.name
        shape = (int(hdu.header["NAXIS2"]), *inner)
        return Item(name, shape, str(column.unit or "").strip(), ragged, place=(number, column.name))
