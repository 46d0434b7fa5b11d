"""Redshifts from separate tables, joined to spectra by TARGETID.

Read are redrock (``redrock-*.fits``, HDU REDSHIFTS), its elder ``zbest-*.fits`` (HDU ZBEST), redshift catalogues
(``zall-pix-*``, ``zcat-*``, ``zpix-*``: HDU ZCATALOG) and quasar catalogues (``QSO_cat_*``: HDU QSO_CAT).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.redshift import is_redshift

TABLE_NAMES = ("REDSHIFTS", "ZBEST", "ZCATALOG", "QSO_CAT")
FILE_NAMES = tuple(
    f"{stem}{end}"
    for stem in ("redrock-*", "zbest-*", "zall-*", "zpix-*", "zcat*", "QSO_cat*")
    for end in (".fits", ".fits.gz")
)
"""Names that a folder given as ``--redshifts`` is searched for."""


@dataclass
class RedshiftTable:
    """Redshifts by target, sorted by `target_id`; of a target's rows the best comes first.

    Parameters
    ----------
    target_id : ndarray, shape (n,), int64
    redshift, error : ndarray, shape (n,), float64, float32
        NaN where the table has none.
    zwarn : ndarray, shape (n,), int64
        -1 where the table has none.
    spectype : ndarray, shape (n,), bytes
    survey, program : ndarray, shape (n,), bytes
        Empty where the table has none.
    """

    target_id: np.ndarray
    redshift: np.ndarray
    error: np.ndarray
    zwarn: np.ndarray
    spectype: np.ndarray
    survey: np.ndarray
    program: np.ndarray

    def find(self, target_id: np.ndarray, survey: bytes = b"", program: bytes = b"") -> np.ndarray:
        """Return the row of this table for each target, -1 where it has none.

        Of several rows of a target, one of the same survey and program is taken, else the best one (the catalogue's
        primary row, then one without a warning).
        """
        target_id = np.asarray(target_id, dtype=np.int64)
        begin = np.searchsorted(self.target_id, target_id, side="left")
        end = np.searchsorted(self.target_id, target_id, side="right")
        rows = np.where(end > begin, begin, -1)
        for index in np.flatnonzero(end - begin > 1):
            span = slice(begin[index], end[index])
            same = (self.survey[span] == survey) & (self.program[span] == program)
            rows[index] = begin[index] + int(np.argmax(same))
        return rows


def read_redshifts(paths: Sequence[Path]) -> RedshiftTable:
    """Read one or more FITS tables of redshifts, plain or gzipped.

    Raises
    ------
    DataError
        A file cannot be read or has no table with TARGETID and Z.
    """
    parts = [_read_table(Path(path)) for path in paths]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # lexsort's last key counts most; ties keep the order of the files.
    order = np.lexsort((joined["zwarn"] != 0, ~joined.pop("primary"), joined["target_id"]))
    return RedshiftTable(**{name: values[order] for name, values in joined.items()})


def find_beside(path: Path) -> Path | None:
    """Return the redrock (or zbest) file of a coadd or spectra file, where there is one in the same folder."""
    stem = path.name.split("-", 1)[-1]
    bare = stem.removesuffix(".gz")
    for kind in ("redrock", "zbest"):
        for name in dict.fromkeys((stem, bare, f"{bare}.gz")):
            candidate = path.with_name(f"{kind}-{name}")
            if candidate != path and candidate.exists():
                return candidate
    return None


def _read_table(path: Path) -> dict[str, np.ndarray]:
    from astropy.io import fits

    try:
        with fits.open(path, memmap=True) as hdus:
            named = [hdus[name] for name in TABLE_NAMES if name in hdus]
            tables = named or [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
            for hdu in tables:
                names = {name.upper() for name in hdu.columns.names}
                if {"TARGETID", "Z"} <= names:
                    return _columns(hdu, names)
            raise DataError(f"{path}: no table with the columns TARGETID and Z; it is no table of redshifts")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as FITS: {error}") from error


def _columns(hdu: object, names: set[str]) -> dict[str, np.ndarray]:
    data, num_rows = hdu.data, len(hdu.data)

    def column(name: str, dtype: str, missing: object) -> np.ndarray:
        if name not in names:
            return np.full(num_rows, missing, dtype=dtype)
        values = np.asarray(data[name])
        return np.char.strip(values.astype("S")) if dtype.startswith("S") else values.astype(dtype)

    redshift = column("Z", "f8", np.nan)
    redshift[~is_redshift(redshift)] = np.nan
    flag = next((name for name in ("ZCAT_PRIMARY", "MAIN_PRIMARY", "SV_PRIMARY") if name in names), "")
    quasars = hdu.name == "QSO_CAT" and "SPECTYPE" not in names
    return {
        "target_id": column("TARGETID", "i8", 0),
        "redshift": redshift,
        "error": column("ZERR", "f4", np.nan),
        "zwarn": column("ZWARN", "i8", -1),
        "spectype": column("SPECTYPE", "S8", b"QSO" if quasars else b""),
        "survey": np.char.lower(column("SURVEY", "S16", b"")),
        "program": np.char.lower(column("PROGRAM", "S16", b"")),
        "primary": column(flag, "?", False),
    }
