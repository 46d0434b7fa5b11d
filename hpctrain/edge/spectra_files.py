"""Spectra for a device: survey FITS files and HDF5, a few hundred rows at a time, on the grid of the network.

N spectra, L pixels. Survey files are processed as by ``hpctrain ingest``: masks, arms, redshifts, resampling. HDF5
files in the layout of ``hpctrain ingest`` must be on the grid of the network already, as for training.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.ingest.block import COLUMNS as BLOCK_COLUMNS
from hpctrain.ingest.identifiers import sdss_ids
from hpctrain.ingest.multimodal_universe import MultimodalReader
from hpctrain.ingest.process import IngestPlan, Reader, ReadyRows, process_all
from hpctrain.ingest.selection import Selection
from hpctrain.ingest.table_columns import KNOWN_NAMES, name_columns, read_columns
from hpctrain.kinds.spectra.wavelength import fill_padding, is_wavelength, read_common_grid, same_grid
from hpctrain.samples.elsewhere import check_filters, check_sources
from hpctrain.samples.target_id import read_target_id

if TYPE_CHECKING:
    from hpctrain.ingest.redshifts import RedshiftTable

FILE_NAMES = ("*.h5", "*.hdf5", "spec-*.fits*", "coadd-*.fits*", "spectra-*.fits*")
"""Patterns of the files to read from a folder."""

COLUMNS = ("flux", "ivar", "mask", "wavelength", "target_id", "redshift")
"""Datasets that this module reads from an HDF5 file; ``mask`` may be absent."""

SPECTRA = ("flux", "ivar", "wavelength")
"""An HDF5 file without one of these holds no spectra."""

SURVEY_COLUMNS = (
    "plate", "mjd", "fiber", "specobjid", "survey", "program", "healpix", "spectype", "zwarn", "redshift_error",
)  # fmt: skip
"""Columns of survey files and of `hpctrain ingest` that the catalogue takes over, with the names of
:mod:`hpctrain.ingest.block`."""

POSITION = ("ra", "dec", "plate", "mjd", "fiber")
"""Columns that :func:`hpctrain.ingest.identifiers.sdss_ids` makes the target id of an SDSS observation from."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_DESI_NAMES = ("coadd-", "spectra-")


@dataclass(frozen=True)
class RawSpectra:
    """Some rows of one file.

    Parameters
    ----------
    path : Path
    flux, ivar : ndarray, shape (N, L), float32
    wavelength_aa : ndarray, shape (L,) or (N, L), float64
        Vacuum wavelengths [AA].
    redshift : ndarray, shape (N,), float64
        NaN where it is not known.
    target_id : ndarray, shape (N,), int64
    ra, dec : ndarray, shape (N,), float64
        ICRS position [deg]; NaN where the file has none.
    row : ndarray, shape (N,), int64
        Row in the file.
    columns : dict of ndarray, shape (N,)
        The columns of `SURVEY_COLUMNS` that the file has.
    is_named_by_position : bool
        Whether `target_id` was made from the positions, as for SDSS files; rows of other files may change it.
    """

    path: Path
    flux: np.ndarray
    ivar: np.ndarray
    wavelength_aa: np.ndarray
    redshift: np.ndarray
    target_id: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    row: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    is_named_by_position: bool = False

    def __len__(self) -> int:
        return len(self.flux)

    def take(self, rows: slice | np.ndarray) -> RawSpectra:
        """Return some of the rows."""
        grid = self.wavelength_aa
        names = ("flux", "ivar", "redshift", "target_id", "ra", "dec", "row")
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in names},
            wavelength_aa=grid if grid.ndim == 1 else grid[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
        )


@dataclass
class SpectraFiles:
    """Read files of spectra one after the other; a damaged file is recorded, and the next one follows.

    Parameters
    ----------
    paths : sequence of Path
    wavelength_aa : ndarray, shape (L,), float64, or None
        Grid of the network [AA]; None where each spectrum brings its own.
    num_pixels : int
        L.
    columns : mapping of str
        Names of datasets in HDF5 files, where they differ from those of ``hpctrain ingest``.
    redshift_tables : sequence of Path
        Tables with TARGETID and Z, for DESI files without a redrock file in the same folder.
    rows_at_once : int
        Rows of HDF5 files that are in memory together.
    searched : collection of Path
        Files that were found by a folder or a glob pattern. Those that hold no spectra are skipped.

    Attributes
    ----------
    failed : list of (Path, str)
        Files that could not be read (to their end), and why.
    skipped : list of (Path, str)
        Files of `searched` that hold no spectra, and why.
    num_read : int
        Number of spectra read so far.
    dropped : Counter of str
        Number of rows of survey files that hold no object (sky fibres, dead fibres), by reason.
    """

    paths: Sequence[Path]
    wavelength_aa: np.ndarray | None
    num_pixels: int
    columns: Mapping[str, str] = field(default_factory=dict)
    redshift_tables: Sequence[Path] = ()
    rows_at_once: int = 256
    searched: Collection[Path] = ()
    failed: list[tuple[Path, str]] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    num_read: int = 0

    def leave_out(self, path: Path) -> None:
        """Do not read a file that was found only by a folder or a glob pattern."""
        self.paths = [one for one in self.paths if one not in self.searched or one.resolve() != path.resolve()]

    def __iter__(self) -> Iterator[RawSpectra]:
        for path in self.paths:
            try:
                for raw in self._read(path):
                    self.num_read += len(raw)
                    yield raw
            except DataError as error:
                is_other = isinstance(error, _NoSpectraError) and path in self.searched
                noted = self.skipped if is_other else self.failed
                noted.append((path, str(error).removeprefix(f"{path}: ")))

    def _read(self, path: Path) -> Iterator[RawSpectra]:
        if _begins_as_hdf5(path):
            try:
                with h5py.File(path, "r") as file:
                    if "spectrum_flux" not in file or self.columns:
                        yield from self._read_hdf5(path, file)
                        return
            except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
                raise DataError(f"cannot be read as HDF5 ({' '.join(str(error).split())}); it is damaged") from error
            yield from self._read_survey(path, MultimodalReader())
        elif path.name.startswith(_DESI_NAMES):
            from hpctrain.ingest.desi import DesiReader

            yield from self._read_survey(path, DesiReader(redshifts=self._redshifts))
        else:
            from hpctrain.ingest.sdss import SdssReader

            yield from self._read_survey(path, SdssReader(), is_sdss=True)

    @functools.cached_property
    def _redshifts(self) -> RedshiftTable | None:
        from hpctrain.ingest.redshifts import read_redshifts

        return read_redshifts(list(self.redshift_tables)) if self.redshift_tables else None

    def _read_survey(self, path: Path, reader: Reader, *, is_sdss: bool = False) -> Iterator[RawSpectra]:
        """Read a survey's file as ``hpctrain ingest`` does, but without cuts on quality: every object is encoded."""
        if self.wavelength_aa is None:
            raise DataError(
                "the network has no wavelength grid of its own to resample to; run `hpctrain ingest` on the file, then "
                "infer on the HDF5 file"
            )
        selection = Selection(min_good_fraction=0.0)
        plan = IngestPlan("files", reader, [path], path, grid=self.wavelength_aa, selection=selection)
        for _, item in process_all(plan, self.wavelength_aa):
            if isinstance(item, ReadyRows):
                yield self._from_survey(path, item, is_sdss)
                continue
            self.dropped.update(item.dropped)
            self.failed += [(Path(name), reason) for name, reason in item.failed_files]

    def _from_survey(self, path: Path, rows: ReadyRows, is_sdss: bool) -> RawSpectra:
        num_rows = len(rows.flux)

        def column(name: str, missing: float) -> np.ndarray:
            return np.asarray(rows.columns.get(name, np.full(num_rows, missing)))

        return RawSpectra(
            path=path,
            flux=rows.flux,
            ivar=rows.ivar,
            wavelength_aa=self.wavelength_aa,
            redshift=column("redshift", np.nan).astype(np.float64),
            target_id=sdss_ids(*(rows.columns[name] for name in POSITION)) if is_sdss else column("target_id", 0),
            ra=column("ra", np.nan).astype(np.float64),
            dec=column("dec", np.nan).astype(np.float64),
            row=column("source_row", 0).astype(np.int64),
            columns={name: rows.columns[name] for name in SURVEY_COLUMNS if name in rows.columns},
            is_named_by_position=is_sdss,
        )

    def _read_hdf5(self, path: Path, file: h5py.File) -> Iterator[RawSpectra]:
        found = self._find_columns(file)
        grid = self._grid(found["wavelength"])
        num_rows = found["flux"].shape[0]
        target_id, _ = read_target_id(found["target_id"])
        others = _survey_columns(file, num_rows)
        for start in range(0, num_rows, self.rows_at_once):
            rows = slice(start, min(start + self.rows_at_once, num_rows))
            wavelength = grid
            flux, ivar = (found[name][rows].astype(np.float32) for name in ("flux", "ivar"))
            if "mask" in found:
                ivar[found["mask"][rows].astype(bool)] = 0
            if wavelength is None:
                raw = found["wavelength"][rows].astype(np.float64)
                ivar[~is_wavelength(raw)] = 0
                wavelength = np.stack([fill_padding(one) for one in raw])
            yield RawSpectra(
                path=path,
                flux=flux,
                ivar=ivar,
                wavelength_aa=wavelength,
                redshift=found["redshift"][rows].astype(np.float64),
                target_id=target_id[rows],
                ra=_optional(file, "ra", rows, num_rows),
                dec=_optional(file, "dec", rows, num_rows),
                row=np.arange(rows.start, rows.stop),
                columns={name: read(rows) for name, read in others.items()},
            )

    def _find_columns(self, file: h5py.File) -> dict[str, h5py.Dataset]:
        names = {role: self.columns.get(role, role) for role in COLUMNS}
        found = {role: file[name] for role, name in names.items() if isinstance(file.get(name), h5py.Dataset)}
        missing = [names[role] for role in COLUMNS if role not in found and (role != "mask" or role in self.columns)]
        if missing:
            have = ", ".join(sorted(file)[:20]) or "nothing"
            message = f"lacks {', '.join(missing)}; it has {have}. Name them: --column NAME=DATASET"
            is_other = any(role not in found and role not in self.columns for role in SPECTRA)
            raise _NoSpectraError(message) if is_other else DataError(message)
        shape = found["flux"].shape
        if len(shape) != 2 or shape[1] != self.num_pixels:
            raise DataError(
                f"flux has shape {shape}, the network takes {self.num_pixels} pixels; "
                "run `hpctrain ingest` to put the spectra on its grid"
            )
        wanted = {"ivar": [shape], "mask": [shape], "target_id": [shape[:1]], "redshift": [shape[:1]]}
        wanted["wavelength"] = [shape[1:], (1, shape[1]), shape]
        wrong = [
            f"{names[role]} has shape {found[role].shape}"
            for role in found
            if role != "flux" and found[role].shape not in wanted[role]
        ]
        if wrong:
            raise DataError(f"{', '.join(wrong)}, which does not fit flux {shape}")
        for role, dataset in found.items():
            check_sources(dataset, names[role])
            check_filters(dataset, names[role])
        return found

    def _grid(self, dataset: h5py.Dataset) -> np.ndarray | None:
        """Return the grid that all rows share, if it is the network's; None where every spectrum has its own grid."""
        grid = read_common_grid(dataset)
        if self.wavelength_aa is None:
            return None if grid is None else fill_padding(grid)
        if grid is None or not same_grid(fill_padding(grid), self.wavelength_aa):
            raise DataError("is on another wavelength grid than the network; run `hpctrain ingest` with its grid")
        return self.wavelength_aa


class _NoSpectraError(DataError):
    """The file holds no spectra."""


def _begins_as_hdf5(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            return stream.read(len(_HDF5)) == _HDF5
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error


def _survey_columns(file: h5py.File, num_rows: int) -> dict[str, Callable[[slice], np.ndarray]]:
    """Return, for each of `SURVEY_COLUMNS` in the file, a function that reads some rows, under its name in the file."""
    there = [name for name, item in file.items() if isinstance(item, h5py.Dataset) and item.shape == (num_rows,)]
    known = {ours: (ours, *KNOWN_NAMES.get(ours, ())) for ours in SURVEY_COLUMNS}
    found = {}
    for ours, theirs in name_columns(there, {}, known).items():
        wanted, have = np.dtype(BLOCK_COLUMNS[ours].dtype), file[theirs].dtype
        if (wanted.kind == "S") == (have.kind in "SO") and (wanted.kind == "S" or have.kind in "iufb"):
            found[ours] = functools.partial(_read_column, ours, file[theirs])
    return found


def _read_column(ours: str, dataset: h5py.Dataset, rows: slice) -> np.ndarray:
    if ours == "specobjid":  # up to 2^64, which float64 would round
        return dataset[rows].astype(np.uint64) if dataset.dtype.kind in "iu" else np.zeros(rows.stop - rows.start, "u8")
    return read_columns({ours: ours}, lambda _: dataset[rows])[ours]


def _optional(file: h5py.File, name: str, rows: slice, num_rows: int) -> np.ndarray:
    dataset = file.get(name)
    if isinstance(dataset, h5py.Dataset) and dataset.shape == (num_rows,) and dataset.dtype.kind in "fiu":
        return dataset[rows].astype(np.float64)
    return np.full(rows.stop - rows.start, np.nan)
