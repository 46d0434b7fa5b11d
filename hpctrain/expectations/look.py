"""Look once at all rows of some files: counts, a sample, repeated rows, cells of the sky."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hpctrain.errors import DataError, SiteError
from hpctrain.expectations.codes import add_column, codes_of
from hpctrain.expectations.sample import Repeats, RowSample
from hpctrain.expectations.section import Expectations
from hpctrain.expectations.sources import Declared, Source
from hpctrain.expectations.summaries import Columns
from hpctrain.expectations.tally import Tally

FINEST_NSIDE = 64
"""Cells of the sky are counted as finely as this, and joined afterwards."""

RA_NAMES = (
    *("ra", "raj2000", "ra_deg", "target_ra", "plug_ra", "ra_icrs", "right_ascension", "survey_ra", "ramean"),
    *("alpha", "alpha_j2000"),
)
DEC_NAMES = (
    *("dec", "decj2000", "dec_deg", "target_dec", "plug_dec", "de_icrs", "declination", "survey_dec", "decmean"),
    *("delta", "delta_j2000"),
)
ID_NAMES = re.compile(
    r"(^|[_/])(id|target_?id|obj_?id|object_?id|spec_?obj_?id|source_?id|best_?obj_?id)$", re.IGNORECASE
)

Progress = Callable[[str, int], None]


@dataclass
class Looked:
    """What was seen in some files.

    Parameters
    ----------
    sources : list of Source
    tallies : dict of Tally
        By column, in the order of the first file.
    sample : dict of ndarray, shape (m,)
        Values of a random sample of rows, NaN for texts, missing values and numbers that stand for "not known".
    sample_files : ndarray, shape (m,)
        Number of the file of each row of the sample.
    rows_of_files : list of int
    ids, rows : Repeats
        Identifiers, and whole rows; `ids` is empty without a column of them.
    id_column : str or None
    sky_columns : (str, str) or None
        Right ascension and declination.
    sky : ndarray, shape (12 * 64 ** 2,), int64
        Objects in each cell, nested.
    columns_of_files : list of set of str
        Names of the columns of each file.
    """

    sources: list[Source]
    tallies: dict[str, Tally] = field(default_factory=dict)
    sample: dict[str, np.ndarray] = field(default_factory=dict)
    sample_files: np.ndarray = field(default_factory=lambda: np.empty(0))
    rows_of_files: list[int] = field(default_factory=list)
    ids: Repeats = field(default_factory=Repeats)
    rows: Repeats = field(default_factory=Repeats)
    id_column: str | None = None
    sky_columns: tuple[str, str] | None = None
    sky: np.ndarray = field(default_factory=lambda: np.zeros(12 * FINEST_NSIDE**2, dtype=np.int64))
    columns_of_files: list[set[str]] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        """Number of objects in all files."""
        return sum(self.rows_of_files)

    def declared(self, name: str) -> Declared | None:
        """Return what the first file that has a column says of it."""
        return next((each.declared[name] for each in self.sources if name in each.declared), None)

    def place(self, row: int) -> tuple[int, int]:
        """Return the number of the file, and the row in it, of a row that is counted through all files."""
        ends = np.cumsum(self.rows_of_files)
        file = int(np.searchsorted(ends, row, side="right"))
        return file, int(row - (ends[file - 1] if file else 0))

    def cells(self, nside: int) -> np.ndarray:
        """Return the objects in each cell of the sky, shape (12 * nside ** 2,)."""
        return self.sky.reshape(12 * nside**2, -1).sum(axis=1)


def look(sources: Sequence[Source], expected: Expectations | None = None, on_rows: Progress | None = None) -> Looked:
    """Look at all rows of some files.

    Parameters
    ----------
    sources : sequence of Source
    expected : Expectations, optional
        Says which columns are identifiers and positions, and what is unexpected; else they are found by their names.
    on_rows : callable, optional
        Called with the name of a file and the number of its rows read so far.

    Raises
    ------
    DataError
        Rows cannot be read, or there are none.
    """
    looked = Looked(list(sources))
    sample: RowSample | None = None
    total = 0
    for number, source in enumerate(sources):
        start, names = total, set()
        for block in source.blocks():
            if sample is None:
                sample = RowSample(len(block) + 1)
                _choose_columns(looked, block, expected)
            size = len(next(iter(block.values()))) if block else 0
            _add(looked, expected, sample, block, (number, total - start, total, size))
            names |= set(block)
            total += size
            if on_rows is not None:
                on_rows(source.path.name, total - start)
        looked.rows_of_files.append(total - start)
        looked.columns_of_files.append(names)
    if not total or sample is None:
        raise DataError(f"{', '.join(str(source.path) for source in sources[:5])}: no object in the file")
    looked.sample = sample.columns()
    looked.sample_files = looked.sample.pop("")
    return looked


def _add(
    looked: Looked,
    expected: Expectations | None,
    sample: RowSample,
    block: Columns,
    place: tuple[int, int, int, int],
) -> None:
    """Add a block: `place` is the number of its file, and its first row in the file and in all files, and its size."""
    file, first_row, first, size = place
    chosen = sample.choose(first, size)
    sample.add("", np.full(len(chosen), file))
    rows = np.zeros(size, dtype=np.uint64)
    numbers: Columns = {}
    for name, values in block.items():
        if name not in looked.tallies:
            looked.tallies[name] = Tally(expected.columns.get(name) if expected is not None else None)
        found = looked.tallies[name].add(file, first_row, values)
        if name in (looked.sky_columns or ()):
            numbers[name] = found
        sample.add(name, found[chosen])
        codes = codes_of(values)
        add_column(rows, name, codes)
        if name == looked.id_column:
            looked.ids.add(first, codes)
    looked.rows.add(first, rows)
    sample.shrink()
    if looked.sky_columns is not None and len(numbers) == 2:
        _add_sky(looked.sky, numbers[looked.sky_columns[0]], numbers[looked.sky_columns[1]])


def _choose_columns(looked: Looked, block: Columns, expected: Expectations | None) -> None:
    if expected is not None:
        looked.id_column = expected.ids.column
        looked.sky_columns = None if expected.sky is None else (expected.sky.ra, expected.sky.dec)
        return
    looked.id_column = next((name for name in block if ID_NAMES.search(name)), None)
    lower = {name.lower(): name for name in reversed(block) if block[name].dtype.kind == "f"}
    ra, dec = (next((lower[each] for each in names if each in lower), None) for names in (RA_NAMES, DEC_NAMES))
    looked.sky_columns = None if ra is None or dec is None else (ra, dec)


def _add_sky(counts: np.ndarray, ra_deg: np.ndarray, dec_deg: np.ndarray) -> None:
    try:
        from astropy import units
        from astropy_healpix.core import lonlat_to_healpix
    except ModuleNotFoundError as error:
        raise SiteError(
            "expectations about the sky need the package astropy-healpix: pip install 'hpctrain[validation]', or "
            "remove the section sky"
        ) from error
    with np.errstate(invalid="ignore"):
        good = (np.abs(dec_deg) <= 90) & (np.abs(ra_deg) <= 360)
    cells = lonlat_to_healpix(ra_deg[good] * units.deg, dec_deg[good] * units.deg, FINEST_NSIDE, order="nested")
    counts += np.bincount(np.asarray(cells, dtype=np.int64), minlength=len(counts))
