"""Write everything of a repacked file but flux and ivar: groups, attributes, other columns, and where it comes from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

import hpctrain
from hpctrain.credentials.hide import own_command
from hpctrain.files import creation_stamp
from hpctrain.kinds.spectra.layout import SOURCE_FILE, SOURCE_FILES
from hpctrain.samples.fingerprint import ColumnHash
from hpctrain.samples.library import open_library_file
from hpctrain.samples.sink import Sink
from hpctrain.storage.attributes import copy_attributes, equal_attributes
from hpctrain.storage.copying import copy_dataset, history_of
from hpctrain.storage.plan import Plan
from hpctrain.storage.rows import column_blocks, column_dtype, named_datasets


def copy_groups(plan: Plan, file: h5py.File) -> None:
    """Copy the groups and their attributes; those in which the sources differ get one folder per source."""
    with contextlib.ExitStack() as stack:
        libraries = [stack.enter_context(open_library_file(source.path)) for source in plan.files]
        common = equal_attributes(libraries)
        copy_attributes(libraries[0], file, set(libraries[0].attrs) - common)

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                copy_attributes(item, file.require_group(name))

        libraries[0].visititems(note)
        if len(libraries) > 1:
            for number, library in enumerate(libraries):
                copy_attributes(library, file.require_group(f"inputs/{number}"), common)


def write_history(plan: Plan, file: h5py.File) -> None:
    """Write the attribute ``repacked``: the version, the command, the layout and the sources, as JSON."""
    sources = [
        {
            "path": str(source.path.resolve()),
            "bytes": source.path.stat().st_size,
            "modified": source.path.stat().st_mtime,
            "num_spectra": len(source),
            "sha256": plan.stored[source.path].columns if source.path in plan.stored else {},
            "repacked": history_of(source.path),
        }
        for source in plan.files
    ]
    file.attrs["repacked"] = json.dumps(
        {
            "hpctrain_version": hpctrain.__version__,
            "created_at": creation_stamp(),
            "command": " ".join(own_command()),
            "target": plan.target.as_dict(),
            "sources": sources,
        }
    )


def copy_shared(plan: Plan, file: h5py.File) -> dict[str, str]:
    """Copy datasets without a row for each spectrum; return the hashes of the sources."""
    known: dict[str, str | None] = {}
    with contextlib.ExitStack() as stack:
        libraries = [stack.enter_context(open_library_file(source.path)) for source in plan.files]
        found = [named_datasets(library, plan.columns) for library in libraries]
        for name in plan.contents.shared:
            known[name] = copy_dataset(found[0][name], file, name)
        for name in plan.contents.differing:
            for number, datasets_here in enumerate(found):
                if name in datasets_here:
                    place = f"inputs/{number}/{name}"
                    known[place] = copy_dataset(datasets_here[name], file, place)
        if plan.has_one_grid:
            known[plan.columns.wavelength] = _write_grid(plan, libraries[0], file)
        has_sources = SOURCE_FILE in plan.contents.by_row and all(SOURCE_FILES in one for one in found)
        if len(libraries) > 1 and has_sources:
            names = np.concatenate([np.asarray(one[SOURCE_FILES][()]).reshape(-1) for one in found])
            dataset = file.create_dataset(SOURCE_FILES, data=names, dtype=found[0][SOURCE_FILES].dtype)
            copy_attributes(found[0][SOURCE_FILES], dataset)
    return {name: value for name, value in known.items() if value}


def _write_grid(plan: Plan, library: h5py.File, file: h5py.File) -> str:
    source = library[plan.columns.wavelength]
    grid = plan.files[0].grid
    assert grid is not None, "the set has one grid"
    values = grid.astype(source.dtype.newbyteorder("<"))
    dataset = file.create_dataset(plan.columns.wavelength, data=values)
    copy_attributes(source, dataset)
    column = ColumnHash()
    column.update(values)
    return column.hexdigest()


def write_columns(
    plan: Plan, file: h5py.File, sink: Sink, on_progress: Callable[[str, int, int], None], notes: list[str]
) -> dict[str, str]:
    """Write the other columns, unchanged except for their byte order; return their hashes.

    Parameters
    ----------
    plan : Plan
    file : h5py.File
        The new file.
    sink : Sink
        What the file is written to.
    on_progress : callable
        Receives the current activity, the rows done and the rows in total.
    notes : list of str
        Gets a note for each column that cannot be copied.
    """
    known = {}
    for name in plan.contents.by_row:
        dtype, tail = column_dtype(plan.files, name)
        if h5py.check_ref_dtype(dtype) is not None:
            notes.append(f"{name}: not copied, because it refers to positions in the old file")
        else:
            known[name] = _write_column(plan, file, sink, name, dtype, tail, on_progress)
    return known


def _write_column(
    plan: Plan,
    file: h5py.File,
    sink: Sink,
    name: str,
    dtype: np.dtype,
    tail: tuple[int, ...],
    on_progress: Callable[[str, int, int], None],
) -> str:
    num_rows = len(plan.spectra)
    is_text = dtype.kind == "O"
    is_pixels = len(tail) > 0 and not is_text and int(np.prod(tail)) >= 64
    options = plan.target.creation((num_rows, *tail), dtype) if is_pixels else {}
    dataset = file.create_dataset(name, shape=(num_rows, *tail), dtype=dtype, **options)
    with open_library_file(plan.files[0].path) as library:
        copy_attributes(library[name], dataset)
    column, begin = ColumnHash(), 0
    for values in column_blocks(plan.files, name):
        if not is_text:
            values = values.astype(dtype, copy=False)
        dataset[begin : begin + len(values)] = values
        sink.check()
        column.update(values)
        begin += len(values)
        on_progress("writing other columns", begin, num_rows)
    return column.hexdigest()
