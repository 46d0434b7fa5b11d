"""Read a new file of spectra back from the disk, and compare it with what was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.files import open_file
from hpctrain.kinds.spectra.section import ColumnsSection
from hpctrain.samples.fingerprint import ColumnHash
from hpctrain.storage.copying import pixel_reader
from hpctrain.storage.pixels import read_blocks
from hpctrain.storage.reading import hash_stored

PIXELS = ("flux", "ivar")


def read_back(
    path: Path,
    known: Mapping[str, str],
    columns: ColumnsSection,
    rows_at_once: Callable[[tuple[int, int]], int],
    on_progress: Callable[[str, int, int], None],
) -> None:
    """Read every column back and compare.

    Parameters
    ----------
    path : Path
    known : mapping of str to str
        SHA-256 of each column of the file as it was written.
    columns : ColumnsSection
        Names of the datasets.
    rows_at_once : callable
        Returns the number of rows to read at once for a shape (N, L).
    on_progress : callable
        Receives the current activity, the bytes done and the bytes in total.

    Raises
    ------
    DataError
        The values read back differ from the written ones.
    """
    written = open_file(path, columns)
    total = len(written) * written.num_pixels * sum(pixel_reader(written, name).out_dtype.itemsize for name in PIXELS)
    hashes = {name: ColumnHash() for name in PIXELS}
    done = 0
    for block in read_blocks([written], columns, rows_at_once(written.flux.shape), {}):
        for name in PIXELS:
            values = getattr(block, name)
            hashes[name].update(values)
            done += values.nbytes
        on_progress("checking", done, total)
    written.close()
    found = {getattr(columns, name): column.hexdigest() for name, column in hashes.items()}
    others = sorted(known.keys() - found.keys())
    for number, name in enumerate(others, 1):
        found[name] = hash_stored(path, name)
        on_progress("checking other columns", number, len(others))
    wrong = sorted(name for name, value in known.items() if found.get(name) != value)
    if wrong:
        raise DataError(
            f"{path.parent}: the values read back differ from the written ones in {', '.join(wrong)}; disk or "
            "memory is faulty; nothing was left there"
        )
