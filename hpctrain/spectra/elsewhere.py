"""Datasets whose bytes are not in the file they are found in, and filters nobody here can undo.

libhdf5 reads a virtual dataset with a missing source as if it were full of fill values, and external storage that is
too short as zeros: spectra nobody has measured, without an error. So whatever a dataset needs is looked for when it is
opened, and what is missing is named.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import h5py

from hpctrain.errors import DataError

_FIRST_PLUGIN = 256
"""Numbers below are libhdf5's own filters."""


def check_sources(dataset: h5py.Dataset, where: str) -> None:
    """See that the bytes of a dataset can be had.

    Parameters
    ----------
    dataset : Dataset
    where : str
        File and dataset, for the message.

    Raises
    ------
    DataError
        It uses external storage, or a source of the virtual dataset is missing or does not reach.
    """
    if dataset.external:
        names = ", ".join(str(name) for name, _, _ in dataset.external)
        raise DataError(
            f"{where}: keeps its values outside HDF5, in {names}, where nothing says whether they are all there; put "
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
    """Return what is wrong with one source of a virtual dataset; empty if nothing is."""
    name = source.file_name
    if "%b" in name:
        return f"its sources are a pattern, {name}"
    if name == ".":
        return "" if source.dset_name in dataset.file else f"its source {source.dset_name} is not in the file"
    # Where libhdf5 looks: beside the virtual file, then as the name stands.
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
            return f"its source {path} has shape {found.shape}, which is not what is taken from it"
    except (OSError, LookupError, RuntimeError, ValueError) as error:
        return f"its source {path} cannot be read ({error})"


def _reaches(found: h5py.Dataset, source: object) -> bool:
    """Say whether what is selected of a source is there; nothing said selects all of it."""
    if source.src_space.get_simple_extent_ndims() == 0:
        return found.size == source.vspace.get_select_npoints()
    last = source.src_space.get_select_bounds()[1]
    return len(last) == found.ndim and all(end < size for end, size in zip(last, found.shape, strict=True))


def _covered(dataset: h5py.Dataset) -> int:
    """Return how many values the sources bring; where they overlap, fewer places are covered."""
    return sum(source.vspace.get_select_npoints() for source in dataset.virtual_sources())


def check_filters(dataset: h5py.Dataset, where: str) -> None:
    """See that libhdf5 can undo the filters of a dataset, with the plugins this environment has.

    Raises
    ------
    DataError
        A filter is missing; names it.
    """
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(place) for place in range(properties.get_nfilters())]
    with contextlib.suppress(ImportError):
        import hdf5plugin  # noqa: F401  tells libhdf5 where its filters are
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

    The Zstandard plugin (of hdf5plugin 7.1) returns an error as a huge size, which libhdf5 takes for success: of a
    damaged chunk it would give what happened to be in memory.

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
    """Say whether any chunk went through that filter; an optional one may have been missing where it was written."""
    chunks = (dataset.id.get_chunk_info(number) for number in range(dataset.id.get_num_chunks()))
    return any(not chunk.filter_mask >> place & 1 for chunk in chunks)
