"""Find in the layout of files the reasons why reading them is slower than it could be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from hpctrain.storage.filesystem import FileSystem, advised_stripes
from hpctrain.storage.layout import ColumnLayout, readable_dtype

SHUFFLE_WINDOW = 4096
"""Default of data.shuffle_window [spectra]."""

_MANY_FILES = 16
_SMALL_FILE_BYTES = 256e6
_LARGE_BAND_MB = 32
_SLOW_FILTERS = ("gzip", "lzf", "szip", "n-bit", "scale-offset")


@dataclass(frozen=True)
class Finding:
    """One reason for slow reading.

    Parameters
    ----------
    code : str
        Identifier for programs.
    text : str
        The finding and its cost.
    helped_by : str
        The remedy: ``repack``, ``stripes``, ``stage``, ``install`` or ``ingest``; empty if there is none.
    num_files : int
        Number of files with this finding.
    """

    code: str
    text: str
    helped_by: str = ""
    num_files: int = 1


def find(
    layouts: dict[Path, list[ColumnLayout]],
    systems: dict[Path, FileSystem],
    sizes: dict[Path, int],
    has_one_grid: bool,
) -> list[Finding]:
    """Return each reason once, with the columns that it concerns and the number of files.

    Parameters
    ----------
    layouts, systems, sizes : dict
        Pixel columns, file system and size [byte] of each file.
    has_one_grid : bool
        Whether all rows of all files have the same wavelengths.
    """
    counts: Counter[Finding] = Counter()
    for path, columns in layouts.items():
        names: dict[_Reason, list[str]] = {}
        for column in columns:
            for reason in _of_column(column, has_one_grid):
                names.setdefault(reason, []).append(column.name)
        counts.update(
            Finding(code, f"{', '.join(of)}: {text}", helped_by) for (code, text, helped_by), of in names.items()
        )
        counts.update(_of_system(systems[path], sizes[path]))
    found = [replace(finding, num_files=count) for finding, count in counts.items()]
    mean = sum(sizes.values()) / len(sizes)
    if len(sizes) > _MANY_FILES and mean < _SMALL_FILE_BYTES:
        text = (
            f"{len(sizes):,} files of {mean / 1e6:.1f} MB on average: each rank opens and maps all of them at every "
            "start"
        )
        found.append(Finding("many-small-files", text, "repack", len(sizes)))
    return found


_Reason = tuple[str, str, str]
"""Code, text and remedy of a finding, without the names of the columns."""


def _of_column(column: ColumnLayout, has_one_grid: bool) -> list[_Reason]:
    row_bytes = column.shape[1] * column.item_bytes
    if column.role == "wavelength" and has_one_grid:
        text = f"the same grid in every row: {row_bytes:,} bytes for each spectrum, compared at every start"
        return [("wavelength-repeated", text, "repack")]
    found = [*_of_access(column), *_of_numbers(column)]
    if column.role == "wavelength":
        text = f"a grid for each row: {row_bytes:,} bytes more to read for each spectrum, and a larger batch"
        found.append(("wavelength-per-row", text, "ingest"))
    return found


def _of_access(column: ColumnLayout) -> list[_Reason]:
    if column.special:
        text = f"{column.special}, read through libhdf5, which serves one thread at a time"
        return [(column.special.replace(" ", "-"), text, "repack")]
    if column.missing_filter:
        text = (
            f"compressed with {column.missing_filter}, for which this machine has no decoder: at most libhdf5 can read "
            "it, one thread at a time"
        )
        return [("filter-missing", text, "install")]
    if column.way == "libhdf5":
        return [("libhdf5-only", "a type of number that only libhdf5 converts, one thread at a time", "repack")]
    return [*_of_chunks(column), *_of_filters(column)]


def _of_chunks(column: ColumnLayout) -> list[_Reason]:
    if column.chunks is None:
        return []
    (rows, width), pixels = column.chunks, column.shape[1]
    found: list[_Reason] = []
    if width < pixels:
        text = f"chunks of {rows} x {width}, so each spectrum of {pixels} pixels is in {-(-pixels // width)} of them"
        found.append(("split-spectra", text, "repack"))
    band_mb = rows * pixels * column.item_bytes / 1e6
    if column.way == "decoded" and rows > SHUFFLE_WINDOW:
        text = (
            f"chunks of {rows:,} rows, more than the shuffle window of {SHUFFLE_WINDOW:,}: the shuffle is less random, "
            f"and each read decodes {band_mb:,.0f} MB"
        )
        found.append(("chunk-above-window", text, "repack"))
    elif column.way == "decoded" and band_mb > _LARGE_BAND_MB:
        found.append(("large-chunks", f"reading one row decodes {rows:,} rows ({band_mb:,.0f} MB)", "repack"))
    return found


def _of_filters(column: ColumnLayout) -> list[_Reason]:
    if not column.filters:
        return []
    slow = [name for name in column.filters if name in _SLOW_FILTERS]
    cost = f"{slow[0]} is slow to decode" if slow else "smaller to read, but decoded again in each epoch"
    text = f"compressed with {'+'.join(column.filters)}: {cost}, and rows are shuffled only within windows"
    return [("slow-filter" if slow else "compressed", text, "repack")]


def _of_numbers(column: ColumnLayout) -> list[_Reason]:
    if column.role not in ("flux", "ivar"):
        return []
    found: list[_Reason] = []
    if not column.is_plain:
        what = readable_dtype(column.dtype) + (" with a scale" if column.scaled else "")
        double = ", and twice the bytes of float32 are read" if column.dtype.endswith("f8") else ""
        found.append(("conversion", f"{what}, so every batch is converted to float32{double}", "repack"))
    if column.offset is not None and column.offset % column.item_bytes:
        text = f"does not begin at a multiple of {column.item_bytes} bytes, so copies are slower"
        found.append(("unaligned", text, "repack"))
    return found


def _of_system(system: FileSystem, num_bytes: int) -> list[Finding]:
    if system.kind == "network":
        text = f"{system.type} has one server for all nodes, so reading random rows is slow"
        return [Finding("network-disk", text, "stage")]
    advised = advised_stripes(num_bytes)
    if system.type == "lustre" and system.stripe_count and system.stripe_count < advised:
        text = (
            f"Lustre keeps the file on {system.stripe_count} of its servers; {num_bytes / 1e9:,.0f} GB that many nodes "
            f"read are better on about {advised}"
        )
        return [Finding("few-stripes", text, "stripes")]
    return []
