"""What a repacked file will hold: which datasets, in which types, in how many bytes, in blocks of how many rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.kinds.spectra.files import SpectraFile
from hpctrain.kinds.spectra.hdf5 import SpectraSet
from hpctrain.kinds.spectra.section import ColumnsSection
from hpctrain.samples.fingerprint import StoredHashes, stored_hashes
from hpctrain.samples.library import open_library_file
from hpctrain.storage.copying import pixel_reader
from hpctrain.storage.opening import files_of
from hpctrain.storage.readback import PIXELS
from hpctrain.storage.rows import Contents, list_contents, named_datasets
from hpctrain.storage.target import Target

BLOCK_BYTES = 16 * 2**20
"""Bytes of each pixel column that are in memory at once."""


@dataclass(frozen=True)
class Plan:
    """The sources and the contents of a new file.

    Parameters
    ----------
    spectra : SpectraSet
        The sources, open.
    columns : ColumnsSection
        Names of the datasets, in the sources and in the new file.
    target : Target
    contents : Contents
        All datasets but flux and ivar.
    dtypes : mapping of str to dtype
        Types of ``flux`` and ``ivar`` in the new file.
    is_lossy : bool
        Whether values are rounded.
    stored : mapping of Path to StoredHashes
        SHA-256 of their columns that the sources hold; empty if they do not matter.
    """

    spectra: SpectraSet
    columns: ColumnsSection
    target: Target
    contents: Contents
    dtypes: Mapping[str, np.dtype]
    is_lossy: bool
    stored: Mapping[Path, StoredHashes]

    @cached_property
    def files(self) -> list[SpectraFile]:
        """The sources, in the order of their rows."""
        return files_of(self.spectra)

    @property
    def has_one_grid(self) -> bool:
        """Whether all spectra share one wavelength grid, which the new file then stores once."""
        return self.spectra.wavelength_aa is not None

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of flux and of ivar."""
        return len(self.spectra), self.spectra.num_pixels

    @property
    def source_bytes(self) -> int:
        """Size of the sources [byte]."""
        return sum(file.path.stat().st_size for file in self.files)

    @property
    def pixel_bytes(self) -> int:
        """Size of flux and ivar before compression [byte]."""
        return self.shape[0] * self.shape[1] * sum(dtype.itemsize for dtype in self.dtypes.values())

    def name_of(self, column: str) -> str:
        """Return the name in the files of ``flux`` or ``ivar``."""
        return getattr(self.columns, column)

    def rows_at_once(self, shape: tuple[int, int]) -> int:
        """Return the number of rows to read at once: whole chunks of the target, and of the sources if possible."""
        step = max(1, BLOCK_BYTES // (4 * shape[1]))
        chunk = self.target.creation(shape, np.dtype(np.float32)).get("chunks", (1,))[0]
        bands = max(file.band_rows for file in self.files)
        whole = int(np.lcm(chunk, bands))
        unit = whole if whole <= 2 * step else max(chunk, bands)
        return max(1, step // unit) * unit if unit <= step else (chunk if self.target.is_compressed else step)

    def check_room(self, out: Path) -> None:
        """Raise before writing if the disk has too little room; a compressed size is known only after writing.

        Raises
        ------
        DataError
            There is too little.
        """
        if self.target.is_compressed:
            return
        free = shutil.disk_usage(out.parent).free
        if self.pixel_bytes > free:
            raise DataError(
                f"{out}: needs {self.pixel_bytes / 1e9:.2f} GB, but {out.parent} has {free / 1e9:.2f} GB free; nothing "
                "was written. --quantise needs about a quarter"
            )

    def conversions(self) -> list[str]:
        """Return a note for each column that gets another type or shape."""
        notes = []
        for name in PIXELS:
            kinds = sorted({pixel_reader(file, name).dtype.str for file in self.files} - {self.dtypes[name].str})
            if kinds:
                notes.append(f"{self.name_of(name)}: {', '.join(kinds)} became {self.dtypes[name]}, little-endian")
        if self.has_one_grid and self.files[0].wavelength_rows is not None:
            notes.append(f"{self.columns.wavelength}: all rows are equal, so it is stored once")
        return notes


def make_plan(
    spectra: SpectraSet, columns: ColumnsSection, target: Target, dropped: Set[str] = frozenset(), trust: bool = False
) -> Plan:
    """Return the plan of a file with the contents of some others.

    Parameters
    ----------
    spectra : SpectraSet
    columns : ColumnsSection
    target : Target
    dropped : set of str
        Datasets to leave out.
    trust : bool
        Do not compare the sources with the SHA-256 that they hold.

    Raises
    ------
    DataError
        The sources do not fit together, or one of them is damaged.
    ProfileError
        `dropped` names a column that training needs, or one that does not exist.
    """
    files = files_of(spectra)
    contents = _list_contents(files, columns, set(dropped), spectra.wavelength_aa is not None)
    halves = {name: all(pixel_reader(file, name).out_dtype == np.float16 for file in files) for name in PIXELS}
    dtypes = {
        name: np.dtype(target.dtype or ("float16" if is_half and not target.quantise else "float32"))
        for name, is_half in halves.items()
    }
    loses_bits = any(dtypes[name] == np.float16 and not is_half for name, is_half in halves.items())
    stored = {} if trust else {file.path: stored_hashes(file.path) for file in files}
    return Plan(spectra, columns, target, contents, dtypes, target.quantise or loses_bits, stored)


def _list_contents(files: list[SpectraFile], columns: ColumnsSection, dropped: set[str], one_grid: bool) -> Contents:
    needed = {name for _, name in columns if name is not None}
    problems = [Problem("--drop", f"{name} is read by the trainer") for name in sorted(dropped & needed)]
    try:
        contents = list_contents(files, columns, dropped, one_grid)
        if dropped:
            there: set[str] = set()
            for file in files:
                with open_library_file(file.path) as library:
                    there |= set(named_datasets(library, columns))
            problems += [Problem("--drop", f"no input has {name}") for name in sorted(dropped - there)]
    except (OSError, RuntimeError) as error:
        raise DataError(f"{files[0].path}: cannot be read; the file is damaged ({error})") from error
    if problems:
        raise ProfileError("command line", problems)
    return contents
