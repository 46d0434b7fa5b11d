"""Open files for the `data` commands as the trainer does, but guess names of columns if necessary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.files import SpectraFile
from hpctrain.kinds.spectra.hdf5 import SpectraSet, open_spectra
from hpctrain.kinds.spectra.layout import OTHER_NAMES
from hpctrain.kinds.spectra.section import ColumnsSection, SpectraSection
from hpctrain.samples.columns import RowReader
from hpctrain.samples.find import find_files
from hpctrain.samples.library import LibraryFile, allow_many_files, open_library_file
from hpctrain.samples.mapped import MappedFile


def open_set(files: Sequence[str], given: Mapping[str, str]) -> tuple[SpectraSet, ColumnsSection, list[str]]:
    """Open files as one set.

    Parameters
    ----------
    files : sequence of str
        Names or glob patterns.
    given : mapping
        Our name of each column to its name in the files, from the command line.

    Returns
    -------
    spectra : SpectraSet
    columns : ColumnsSection
        The names that the function used.
    notes : list of str
        Guessed names, as a line for the profile.

    Raises
    ------
    DataError
        Files are wrong; the message lists all problems of all files.
    """
    paths = find_files(list(files), Path())
    allow_many_files()
    columns, notes = _guess(paths, given)
    return open_spectra(SpectraSection(files=[str(path) for path in paths], columns=columns)), columns, notes


def files_of(spectra: SpectraSet) -> list[SpectraFile]:
    """Return the files of a set, without the empty ones."""
    return spectra._files  # commands need single files; the trainer never does


def own_readers(file: SpectraFile, columns: ColumnsSection) -> dict[str, RowReader]:
    """Return readers of flux, ivar and mask. Their decoded data are freed when the caller drops them.

    The readers of the set live as long as the set. The decoded data of many compressed files would fill the memory.

    Raises
    ------
    DataError
        The file was changed since the set was opened.
    """
    library_file, mapped = LibraryFile(file.path), MappedFile(file.path)
    roles = ("flux", "ivar", "mask") if file.mask is not None else ("flux", "ivar")
    with open_library_file(file.path) as library:
        readers = {role: RowReader(library_file, mapped, library[getattr(columns, role)]) for role in roles}
    if any(reader.shape != file.flux.shape for reader in readers.values()):
        raise DataError(f"{file.path}: was changed while it is being read")
    return readers


def _guess(paths: list[Path], given: Mapping[str, str]) -> tuple[ColumnsSection, list[str]]:
    """Choose the known name of another survey if the first readable file does not have our name."""
    library = _first_readable(paths)
    if library is None:
        return ColumnsSection(**given), []
    with library:
        names, notes = dict(given), []
        for role, name in ColumnsSection():
            if role in given or name is None or name in library:
                continue
            known = next((other for other in OTHER_NAMES[role] if isinstance(library.get(other), h5py.Dataset)), None)
            if known is not None:
                names[role] = known
        guessed = ", ".join(f"{role}: {name}" for role, name in names.items() if role not in given)
        if guessed:
            notes.append(f"names of columns were guessed; in a profile, data.columns: {{{guessed}}}")
        return ColumnsSection(**names), notes


def _first_readable(paths: list[Path]) -> h5py.File | None:
    for path in paths:
        try:
            return open_library_file(path)
        except DataError:
            continue  # opening the set reports this file together with all others
    return None
