"""Add columns of a catalogue to a file of spectra: labels that somebody else has published. N spectra, M objects."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.ingest.mapped.stores.table import read_table
from hpctrain.ingest.matching import Match, plain, rows_by_name, rows_by_position, their_name
from hpctrain.rundir import file_digest, fsync_directory
from hpctrain.samples.fingerprint import TIME_ATTRIBUTE, settle_time, write_hashes
from hpctrain.samples.sink import require_free

UNKNOWN_INTEGER = -1
"""Value of a column of large integers where the catalogue has none."""

_EXACT = 2**53
"""Integers up to this one are exact as float64."""
_PARQUET = (".parquet", ".pq")


@dataclass
class Joined:
    """The result: how many spectra have a row, and how many values each new column has."""

    out: Path
    num_spectra: int
    num_matched: int
    num_known: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def join(
    spectra: Path,
    catalogue: Path,
    match: Match,
    columns: Mapping[str, str],
    out: Path,
    *,
    missing: Sequence[float] = (),
    hdu: int | None = None,
    overwrite: bool = False,
) -> Joined:
    """Write a copy of a file of spectra with columns of a catalogue.

    Parameters
    ----------
    spectra : Path
        HDF5 file.
    catalogue : Path
        FITS, CSV, ECSV, VOTable, text or Parquet table with a row per object.
    match : Match
    columns : mapping
        Name in the new file: name in the catalogue.
    out : Path
        New file; with `overwrite` it may be `spectra`.
    missing : sequence of float
        Numbers that mean 'not known', such as -9999.
    hdu : int, optional
        Extension of a FITS file; the first table by default.
    overwrite : bool
        Replace an existing file once the new one is complete.

    Returns
    -------
    Joined

    Raises
    ------
    ProfileError
        Columns do not exist, or exist already.
    DataError
        A file cannot be read or written, no spectrum has a row, or rows for one object differ.
    """
    out = Path(os.path.realpath(out))
    require_free(out, overwrite)
    table = _read_catalogue(catalogue, hdu)
    with _opened(spectra) as file:
        _refuse_wrong_names(spectra, file, catalogue, table, match, columns)
        keys = {name: file[name][:] for name in ([match.ours] if match.ours else ["ra", "dec"])}
    num_spectra = len(next(iter(keys.values())))
    notes: list[str] = []
    rows = rows_by_position(keys, table, match, notes) if not match.ours else rows_by_name(keys, table, match, columns)
    if not (rows >= 0).any():
        first = ", ".join(str(value) for value in keys[next(iter(keys))][:3])
        raise DataError(
            f"{catalogue}: no row belongs to a spectrum of {spectra} ({match.describe()}; ours: {first} ...)"
        )
    values = {ours: _values(table[theirs], rows, missing, ours) for ours, theirs in columns.items()}
    provenance = {
        "catalogue": str(catalogue),
        "sha256": file_digest(catalogue),
        "match": match.describe(),
        "num_matched": int((rows >= 0).sum()),
    }
    _write(spectra, out, values, columns, provenance, overwrite)
    known = {name: int(_is_known(found).sum()) for name, found in values.items()}
    return Joined(out, num_spectra, provenance["num_matched"], known, notes)


@contextlib.contextmanager
def _opened(path: Path) -> Any:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: is not an HDF5 file that can be read: {error}") from error
    with file:
        yield file


def _read_catalogue(path: Path, hdu: int | None) -> Any:
    """Return an astropy table."""
    from astropy.table import Table

    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith((".fits", ".fit")):
            return Table.read(path, format="fits", hdu=hdu)
        if name.endswith(_PARQUET):
            return _read_parquet(path)
    except ImportError as error:
        raise DataError(f"{path}: needs pyarrow: pip install 'hpctrain[parquet]'") from error
    except (ValueError, TypeError, LookupError, OSError) as error:
        raise DataError(f"{path}: is not a table that can be read: {str(error).splitlines()[0][:200]}") from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "OverflowError converting to IntType")  # a text matches as well
            table = read_table(path)[0]
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if not table.colnames or not len(table):
        raise DataError(f"{path}: is not a table with rows and named columns")
    return table


def _read_parquet(path: Path) -> Any:
    import pyarrow.parquet
    from astropy.table import MaskedColumn, Table

    arrow = pyarrow.parquet.read_table(path)
    columns = {}
    for name in arrow.column_names:
        values = arrow[name]
        is_null = values.is_null().to_numpy()
        filled = values.fill_null("" if pyarrow.types.is_string(values.type) else 0) if is_null.any() else values
        columns[name] = MaskedColumn(filled.to_numpy(), mask=is_null)
    return Table(columns)


def _refuse_wrong_names(
    spectra: Path, file: h5py.File, catalogue: Path, table: Any, match: Match, columns: Mapping[str, str]
) -> None:
    problems = []
    ours = [match.ours] if match.ours else ["ra", "dec"]
    for name in ours:
        if not isinstance(file.get(name), h5py.Dataset) or file[name].ndim != 1:
            per_spectrum = sorted(key for key, item in file.items() if getattr(item, "ndim", 0) == 1)
            problems.append(Problem("--on", f"{spectra} has no column '{name}'; there are {', '.join(per_spectrum)}"))
    for name in [match.theirs] if match.ours else ["ra", "dec"]:
        if their_name(table, name) is None:
            problems.append(Problem("--on", f"{catalogue} has no column '{name}'; there are {_names(table)}"))
    for new, theirs in columns.items():
        if theirs not in table.colnames:
            problems.append(Problem("--column", f"{catalogue} has no column '{theirs}'; there are {_names(table)}"))
        elif len(table[theirs].shape) != 1:
            problems.append(Problem("--column", f"'{theirs}' has {table[theirs].shape[1:]} values for each object"))
        if new in file:
            problems.append(Problem("--column", f"{spectra} has a column '{new}' already; write NEW={theirs}"))
    if problems:
        raise ProfileError("join", problems)


def _names(table: Any) -> str:
    return ", ".join(table.colnames)[:400]


def _values(column: Any, rows: np.ndarray, missing: Sequence[float], name: str) -> np.ndarray:
    """Return the values of the spectra, shape (N,): NaN, an empty text or -1 where there is none."""
    values, masked = plain(column), np.ma.getmaskarray(np.ma.asarray(column))
    found, there = values[np.maximum(rows, 0)], (rows >= 0) & ~masked[np.maximum(rows, 0)]
    if found.dtype.kind == "U":
        texts = np.where(there, found, "")
        return np.char.encode(texts, "utf-8") if texts.size else texts.astype("S1")
    if found.dtype.kind == "b":
        found = found.astype(np.int64)
    if found.dtype.kind not in "iuf":
        raise DataError(f"'{name}' has values of type {found.dtype}; join takes numbers and texts")
    there &= ~np.isin(found, np.asarray(missing)) if len(missing) else True
    if found.dtype.kind == "f":
        return np.where(there, found, np.nan).astype(found.dtype.newbyteorder("="))
    if there.all():
        return found.astype(np.int64)
    if there.any() and np.abs(found[there].astype(np.float64)).max() >= _EXACT:
        return np.where(there, found, UNKNOWN_INTEGER).astype(np.int64)
    return np.where(there, found.astype(np.float64), np.nan)


def _is_known(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        return values != b""
    return np.isfinite(values) if values.dtype.kind == "f" else values != UNKNOWN_INTEGER


def _write(
    spectra: Path,
    out: Path,
    values: Mapping[str, np.ndarray],
    columns: Mapping[str, str],
    provenance: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Copy the file under a hidden name, add the columns, and give it its name."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.join")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(spectra, temporary)
        with h5py.File(temporary, "r+") as file:
            had_hashes = TIME_ATTRIBUTE in file.attrs
            for name, found in values.items():
                dataset = file.create_dataset(name, data=found)
                dataset.attrs["joined"] = json.dumps({**provenance, "column": columns[name]})
            if had_hashes:
                known = {name: item.attrs["sha256"] for name, item in file.items() if "sha256" in item.attrs}
                write_hashes(file, known)
        if had_hashes:
            settle_time(temporary)
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        require_free(out, overwrite)
        os.replace(temporary, out)
        fsync_directory(out.parent)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{out}: cannot be written: {reason}; nothing was left there") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
