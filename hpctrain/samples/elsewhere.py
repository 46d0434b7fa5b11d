"""Check for datasets whose values are in other files, and for filters that cannot be decoded here.

libhdf5 reads fill values for a missing source of a virtual dataset, and zeros for external storage that is too short.
These would be spectra that nobody has measured, without an error. So a dataset is checked when it is opened, and an
error names its missing parts.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import h5py

from hpctrain.errors import DataError

_FIRST_PLUGIN = 256
"""Smallest number of a filter plugin; smaller numbers are libhdf5's own filters."""


def check_sources(dataset: h5py.Dataset, where: str) -> None:
    """Check that the values of a dataset can be read.

    Parameters
    ----------
    dataset : Dataset
    where : str
        File and dataset, for the message.

    Raises
    ------
    DataError
        The dataset uses external storage, or a source of the virtual dataset is missing or too small.
    """
    if dataset.external:
        names = ", ".join(str(name) for name, _, _ in dataset.external)
        raise DataError(
            f"{where}: keeps its values outside HDF5, in {names}, so they may be incomplete; put "
            "them into the file with: h5repack -l CONTI"
        )
    if dataset.is_virtual:
        problems = [problem for source in dataset.virtual_sources() if (problem := _problem_of(dataset, source))]
        if not problems and _covered(dataset) < dataset.size:
            problems = ["its sources do not cover all of it"]
        if problems:
            raise DataError(
                f"{where}: is virtual, and {'; '.join(problems[:5])}; libhdf5 would read other values there"
            )


def _problem_of(dataset: h5py.Dataset, source: object) -> str:
    """Return the fault of one source of a virtual dataset; empty if there is none."""
    name = source.file_name
    if "%b" in name:
        return f"its sources are a pattern, {name}"
    if name == ".":
        return "" if source.dset_name in dataset.file else f"its source {source.dset_name} is not in the file"
    # libhdf5 looks in the folder of the virtual file, then at the name itself.
    places = [Path(dataset.file.filename).resolve().parent / name, Path(name)]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        return f"its source {name} is missing"
    try:
        with h5py.File(path, "r", locking=False) as file:
            found = file[source.dset_name]
            if found.is_virtual or found.external:
                return f"its source {path} does not hold its values itself"
            if _reaches(found, source):
                return ""
            return f"its source {path} has shape {found.shape}, which does not hold the selected part"
    except (OSError, LookupError, RuntimeError, ValueError) as error:
        return f"its source {path} cannot be read ({error})"


def _reaches(found: h5py.Dataset, source: object) -> bool:
    """Return whether the source holds the selected part; without a selection that is all of it."""
    if source.src_space.get_simple_extent_ndims() == 0:
        return found.size == source.vspace.get_select_npoints()
    last = source.src_space.get_select_bounds()[1]
    return len(last) == found.ndim and all(end < size for end, size in zip(last, found.shape, strict=True))


def _covered(dataset: h5py.Dataset) -> int:
    """Return how many values the sources give; where they overlap, they cover fewer places."""
    return sum(source.vspace.get_select_npoints() for source in dataset.virtual_sources())


def check_filters(dataset: h5py.Dataset, where: str) -> None:
    """Check that libhdf5 can decode the filters of a dataset with the plugins of this environment.

    Raises
    ------
    DataError
        A filter is missing; the message names it.
    """
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(place) for place in range(properties.get_nfilters())]
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401  gives libhdf5 the path of its filters
    for place, (number, _, _, name) in enumerate(filters):
        if not h5py.h5z.filter_avail(number) and _is_used(dataset, place):
            label = name.decode(errors="replace").split(";")[0].strip()
            folders = os.environ.get("HDF5_PLUGIN_PATH", "")
            raise DataError(
                f"{where}: is packed with filter {number}{f' ({label})' if label else ''}, which is not installed "
                f"here: pip install hdf5plugin{f', or see HDF5_PLUGIN_PATH={folders}' if folders else ''}"
            )


def refuse_plugins(dataset: h5py.Dataset, where: str) -> None:
    """Refuse a dataset that only libhdf5 can read if filters are plugins.

    The Zstandard plugin (of hdf5plugin 7.1) returns an error as a huge size, which libhdf5 takes for success. For a
    damaged chunk it would return arbitrary memory.

    Raises
    ------
    DataError
    """
    properties = dataset.id.get_create_plist()
    numbers = [properties.get_filter(place)[0] for place in range(properties.get_nfilters())]
    if any(number >= _FIRST_PLUGIN for number in numbers):
        raise DataError(
            f"{where}: may grow in the direction of its pixels (maxshape {dataset.maxshape}) and is packed with filter "
            f"{max(numbers)}, which cannot be read safely together; repack it with a fixed number of pixels"
        )


def _is_used(dataset: h5py.Dataset, place: int) -> bool:
    """Return whether any chunk uses that filter; the writer may have lacked an optional one."""
    chunks = (dataset.id.get_chunk_info(number) for number in range(dataset.id.get_num_chunks()))
    return any(not chunk.filter_mask >> place & 1 for chunk in chunks)
