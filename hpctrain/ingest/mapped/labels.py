"""Values of one kind per spectrum: redshift, target id, position, and whatever the user wants to carry along."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.block import COLUMNS
from hpctrain.ingest.mapped.resolve import Label
from hpctrain.ingest.table_columns import read_columns

MOST_TEXT = 64
"""Longest text of a carried column [bytes]; longer text is an error, because it would be cut."""


def label_values(label: Label, rows: slice | None, num_rows: int) -> np.ndarray:
    """Return the values of a label for some spectra.

    Parameters
    ----------
    label : Label
    rows : slice or None
        Rows of the file; None for a file with one spectrum.
    num_rows : int
        Number of spectra that these rows are.

    Returns
    -------
    ndarray, shape (num_rows,)
    """
    if label.field is None:
        return np.full(num_rows, label.value)
    values = np.asarray(label.field.read()).reshape(-1)
    if len(values) == 1:
        return np.full(num_rows, values[0])
    return values if rows is None else values[rows]


def one_value(ours: str, label: Label, values: np.ndarray) -> np.ndarray:
    """Return the one value, shape (1,), of a column of a table with a row per pixel.

    Raises
    ------
    DataError
        The pixels have different values.
    """
    values = np.asarray(values)
    same = values == values[:1]
    both_missing = values.dtype.kind == "f" and np.isnan(values[:1]).all() and np.isnan(values).all()
    if not (np.all(same) or both_missing):
        raise DataError(
            f"{ours}: {label.source} has several values among the pixels of one spectrum ({values[0]} and "
            f"{values[~same][0]}); if rows belong to several objects, name the column that tells them apart: "
            "--column target_id=NAME"
        )
    return values[:1]


def ours_from_theirs(values: dict[str, np.ndarray], labels: dict[str, Label], missing: Sequence[float]) -> dict:
    """Return columns of the output from values as the file holds them.

    Parameters
    ----------
    values : dict of ndarray, shape (n,)
        By our name.
    labels : dict of Label
        By our name.
    missing : sequence of float
        Values that mean 'not known'.

    Raises
    ------
    DataError
        Values are no numbers, or text is too long.
    """
    columns: dict[str, np.ndarray] = {}
    for ours, theirs in values.items():
        label = labels[ours]
        cleaned = _without_missing(theirs, missing)
        if ours not in COLUMNS:
            columns[ours] = _carried(ours, label, cleaned)
            continue
        if ours in ("ra", "dec"):
            cleaned = _degrees(ours, label, cleaned)
        try:
            columns |= read_columns({ours: label.source}, lambda _, cleaned=cleaned: cleaned)
        except ValueError as error:
            raise DataError(f"{ours}: {label.source} holds {cleaned.reshape(-1)[0]!r}, which is no number") from error
        width = int(COLUMNS[ours].dtype[1:]) if COLUMNS[ours].dtype.startswith("S") else 0
        longest = max((len(_bytes(value)) for value in cleaned), default=0) if width else 0
        if longest > width:
            raise DataError(
                f"{ours}: {label.source} has text of {longest} characters, {ours} holds {width}; carry it under "
                f"another name: --column label={label.source}"
            )
        if ours == "target_id" and "name" not in values and _is_hashed(cleaned):
            columns["name"] = _carried("name", label, cleaned)
    return columns


def made_ids(file_name: str, rows: np.ndarray) -> np.ndarray:
    """Return target ids made of the name of a file and the row, int64, above 0."""
    ids = []
    for row in rows:
        digest = hashlib.blake2b(f"{file_name}#{row}".encode(), digest_size=8).digest()
        ids.append(int.from_bytes(digest, "big") >> 1)
    return np.array(ids, dtype=np.int64)


def _is_hashed(identifiers: np.ndarray) -> bool:
    """Return whether identifiers are text that is not a number, so that the target id does not show them."""
    return identifiers.dtype.kind in "SUO" and not all(_bytes(value).isdigit() for value in identifiers)


def _without_missing(values: np.ndarray, missing: Sequence[float]) -> np.ndarray:
    values = np.asarray(values)
    if not missing or values.dtype.kind not in "iuf":
        return values
    unknown = np.isin(values, np.asarray(missing, dtype=np.float64))
    return np.where(unknown, np.nan, values.astype(np.float64)) if unknown.any() else values


def _carried(ours: str, label: Label, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "b":
        return values.astype(np.int8)
    if values.dtype.kind in "iu":
        return values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind == "f":
        return values.astype(values.dtype.newbyteorder("=")).astype(np.float64, copy=False)
    encoded = [_bytes(value) for value in values]
    longest = max(map(len, encoded), default=0)
    if longest > MOST_TEXT:
        raise DataError(f"{ours}: {label.source} has text of {longest} bytes; a column holds up to {MOST_TEXT}")
    return np.array(encoded, dtype=f"S{max(longest, 1)}")


def _bytes(value: Any) -> bytes:
    if value is None:
        return b""
    return (bytes(value) if isinstance(value, bytes) else str(value).encode()).strip()


def _degrees(ours: str, label: Label, values: np.ndarray) -> np.ndarray:
    """Return degrees of numbers in any unit of angle, or of text such as 12:34:56.7 (hours for RA)."""
    from astropy import units
    from astropy.coordinates import Angle

    if values.dtype.kind in "SUO":
        texts = [_bytes(value).decode(errors="replace") for value in values]
        try:
            return np.array([float(text) for text in texts])
        except ValueError:
            pass
        try:
            return Angle(texts, unit=units.hourangle if ours == "ra" else units.deg).deg
        except (ValueError, units.UnitsError) as error:
            raise DataError(f"{ours}: {label.source} holds '{texts[0]}', which is no angle") from error
    try:
        unit = units.Unit(label.unit) if label.unit else units.deg
        unit = units.hourangle if unit == units.hour else unit
        return np.asarray(unit.to(units.deg, values.astype(np.float64)))
    except (ValueError, units.UnitConversionError):
        return values
