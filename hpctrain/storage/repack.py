"""Rewrite files of spectra in the layout that reads fastest, and check them by reading them back.

The module processes rows in blocks, so that memory does not grow with the files. The new file keeps a hidden temporary
name until the reader of the trainer has read back every column, and its SHA-256 agrees with that of the source.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import hpctrain
from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.kinds.spectra.hdf5 import SpectraSet
from hpctrain.kinds.spectra.layout import SOURCE_FILE, SOURCE_FILES
from hpctrain.kinds.spectra.section import ColumnsSection
from hpctrain.rundir import fsync_directory
from hpctrain.samples.fingerprint import ColumnHash, settle_time, stored_hashes, write_hashes
from hpctrain.samples.library import open_library_file
from hpctrain.samples.sink import Sink, new_hdf5_file, require_free
from hpctrain.storage.attributes import OF_SCALED_NUMBERS, copy_attributes, equal_attributes
from hpctrain.storage.copying import copy_dataset, disk_errors, empty_cache, history_of, pixel_reader, remove_leftovers
from hpctrain.storage.loss import Loss
from hpctrain.storage.opening import files_of, open_set
from hpctrain.storage.pixels import PixelBlock, read_blocks
from hpctrain.storage.quantise import STEP_RULE, quantise
from hpctrain.storage.readback import PIXELS, read_back
from hpctrain.storage.rows import Contents, column_blocks, column_dtype, list_contents, named_datasets
from hpctrain.storage.target import Target

BLOCK_BYTES = 16 * 2**20
"""Bytes of each pixel column that are in memory at once."""

_ALIGNMENT = 4096
"""Alignment of columns: each begins at a page of memory, so that no two share a page."""

Progress = Callable[[str, int, int], None]
"""Receives the current activity, the bytes done and the bytes in total."""


@dataclass
class Repacked:
    """The result of a repack."""

    out: Path
    num_spectra: int
    num_pixels: int
    source_bytes: int
    out_bytes: int
    seconds: float
    num_verified: int
    """Columns that agree with the SHA-256 of their source after reading back."""
    loss: dict[str, Any] | None
    """Differences in units of sigma; None if no value was rounded."""
    loss_text: str
    notes: list[str] = field(default_factory=list)


def repack(
    inputs: Sequence[str],
    out: Path,
    target: Target,
    *,
    columns: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    overwrite: bool = False,
    ignore_hashes: bool = False,
    on_progress: Progress | None = None,
) -> Repacked:
    """Write one file from one or several files that together are one set.

    Parameters
    ----------
    inputs : sequence of str
        Names or glob patterns.
    out : Path
        The new file; with `overwrite` it may be one of the inputs.
    target : Target
        Layout of the new file.
    columns : mapping, optional
        Our name of each column to its name in the files. The output keeps the names of the files.
    drop : sequence of str
        Datasets to leave out.
    overwrite : bool
        Replace an existing file when the new one is complete.
    ignore_hashes : bool
        Continue if a source differs from its own SHA-256.
    on_progress : callable, optional

    Returns
    -------
    Repacked

    Raises
    ------
    DataError
        The inputs do not fit together, one of them is damaged, or the output cannot be written or read back. The
        function then leaves no file.
    ProfileError
        `drop` names a column that training needs, or one that does not exist.
    """
    started_s = time.monotonic()
    out = Path(os.path.realpath(out))  # a link remains, and points to the new file
    require_free(out, overwrite)
    spectra, names, notes = open_set(inputs, columns or {})
    job = _Job(spectra, names, target, set(drop), ignore_hashes, on_progress or (lambda *_: None), notes)
    notes += remove_leftovers(out)
    temporary = out.with_name(f".{out.name}.{socket.gethostname()}.{os.getpid()}.repack")
    try:
        with disk_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            job.check_room(out)
            known = job.write(temporary)
            empty_cache(temporary)
        read_back(temporary, known, job.columns, job.rows_at_once, job.on_progress)
        with disk_errors(out):
            settle_time(temporary)
            require_free(out, overwrite)
            os.replace(temporary, out)
            fsync_directory(out.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return Repacked(
        out=out,
        num_spectra=len(spectra),
        num_pixels=spectra.num_pixels,
        source_bytes=job.source_bytes,
        out_bytes=out.stat().st_size,
        seconds=time.monotonic() - started_s,
        num_verified=len(known),
        loss=job.loss.as_dict() if job.is_lossy else None,
        loss_text=str(job.loss) if job.is_lossy else "",
        notes=notes,
    )


class _Job:
    """The writing of one file."""

    def __init__(
        self,
        spectra: SpectraSet,
        columns: ColumnsSection,
        target: Target,
        dropped: set[str],
        ignore_hashes: bool,
        on_progress: Progress,
        notes: list[str],
    ) -> None:
        self.spectra, self.columns, self.target = spectra, columns, target
        self.files = files_of(spectra)
        self.source_bytes = sum(file.path.stat().st_size for file in self.files)
        self.notes, self.loss = notes, Loss()
        self.on_progress = on_progress
        self._stored = {} if ignore_hashes else {file.path: stored_hashes(file.path) for file in self.files}
        self._has_one_grid = spectra.wavelength_aa is not None
        self.contents = self._list_contents(dropped)
        halves = {name: all(pixel_reader(file, name).out_dtype == np.float16 for file in self.files) for name in PIXELS}
        self._dtypes = {
            name: np.dtype(target.dtype or ("float16" if is_half and not target.quantise else "float32"))
            for name, is_half in halves.items()
        }
        self.is_lossy = target.quantise or any(
            self._dtypes[name] == np.float16 and not is_half for name, is_half in halves.items()
        )
        self._note_conversions()

    def _list_contents(self, dropped: set[str]) -> Contents:
        needed = {name for _, name in self.columns if name is not None}
        problems = [Problem("--drop", f"{name} is read by the trainer") for name in sorted(dropped & needed)]
        try:
            contents = list_contents(self.files, self.columns, dropped, self._has_one_grid)
            if dropped:
                there = set()
                for file in self.files:
                    with open_library_file(file.path) as library:
                        there |= set(named_datasets(library, self.columns))
                problems += [Problem("--drop", f"no input has {name}") for name in sorted(dropped - there)]
        except (OSError, RuntimeError) as error:
            raise DataError(f"{self.files[0].path}: cannot be read; the file is damaged ({error})") from error
        if problems:
            raise ProfileError("command line", problems)
        return contents

    def _note_conversions(self) -> None:
        for name in PIXELS:
            kinds = sorted({pixel_reader(file, name).dtype.str for file in self.files} - {self._dtypes[name].str})
            if kinds:
                now = f"{self._dtypes[name]}, little-endian"
                self.notes.append(f"{getattr(self.columns, name)}: {', '.join(kinds)} became {now}")
        if self._has_one_grid and self.files[0].wavelength_rows is not None:
            self.notes.append(f"{self.columns.wavelength}: all rows are equal, so it is stored once")

    @property
    def _pixel_bytes(self) -> int:
        width = sum(dtype.itemsize for dtype in self._dtypes.values())
        return len(self.spectra) * self.spectra.num_pixels * width

    def check_room(self, out: Path) -> None:
        """Raise before writing if the disk has too little room; a compressed size is known only after writing."""
        if self.target.is_compressed:
            return
        needed, free = self._pixel_bytes, shutil.disk_usage(out.parent).free
        if needed > free:
            raise DataError(
                f"{out}: needs {needed / 1e9:.2f} GB, but {out.parent} has {free / 1e9:.2f} GB free; nothing was "
                "written. --quantise needs about a quarter"
            )

    def write(self, path: Path) -> dict[str, str]:
        """Write the file; return the SHA-256 of each column after rounding, if any."""
        with new_hdf5_file(path, alignment_threshold=2**20, alignment_interval=_ALIGNMENT) as (file, sink):
            self._copy_groups(file)
            known = self._copy_shared(file)
            known |= self._write_pixels(file, sink)
            for name in self.contents.by_row:
                known[name] = self._write_column(file, sink, name)
            known = {name: value for name, value in known.items() if value}
            write_hashes(file, known)
        return known

    def _copy_groups(self, file: h5py.File) -> None:
        with contextlib.ExitStack() as stack:
            libraries = [stack.enter_context(open_library_file(source.path)) for source in self.files]
            common = equal_attributes(libraries)
            copy_attributes(libraries[0], file, set(libraries[0].attrs) - common)

            def note(name: str, item: Any) -> None:
                if isinstance(item, h5py.Group):
                    copy_attributes(item, file.require_group(name))

            libraries[0].visititems(note)
            if len(libraries) > 1:
                for number, library in enumerate(libraries):
                    copy_attributes(library, file.require_group(f"inputs/{number}"), common)
        sources = [
            {
                "path": str(source.path.resolve()),
                "bytes": source.path.stat().st_size,
                "modified": source.path.stat().st_mtime,
                "num_spectra": len(source),
                "sha256": self._stored[source.path].columns if source.path in self._stored else {},
                "repacked": history_of(source.path),
            }
            for source in self.files
        ]
        file.attrs["repacked"] = json.dumps(
            {
                "hpctrain_version": hpctrain.__version__,
                "created_at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "command": " ".join(sys.argv),
                "target": self.target.as_dict(),
                "sources": sources,
            }
        )

    def _copy_shared(self, file: h5py.File) -> dict[str, str]:
        """Copy datasets without a row for each spectrum; return the hashes of the sources."""
        known: dict[str, str | None] = {}
        with contextlib.ExitStack() as stack:
            libraries = [stack.enter_context(open_library_file(source.path)) for source in self.files]
            found = [named_datasets(library, self.columns) for library in libraries]
            for name in self.contents.shared:
                known[name] = copy_dataset(found[0][name], file, name)
            for name in self.contents.differing:
                for number, datasets_here in enumerate(found):
                    if name in datasets_here:
                        place = f"inputs/{number}/{name}"
                        known[place] = copy_dataset(datasets_here[name], file, place)
            if self._has_one_grid:
                known[self.columns.wavelength] = self._write_grid(libraries[0], file)
            if len(libraries) > 1 and SOURCE_FILE in self.contents.by_row and all(SOURCE_FILES in one for one in found):
                names = np.concatenate([np.asarray(one[SOURCE_FILES][()]).reshape(-1) for one in found])
                dataset = file.create_dataset(SOURCE_FILES, data=names, dtype=found[0][SOURCE_FILES].dtype)
                copy_attributes(found[0][SOURCE_FILES], dataset)
        return {name: value for name, value in known.items() if value}

    def _write_grid(self, library: h5py.File, file: h5py.File) -> str:
        source = library[self.columns.wavelength]
        grid = self.files[0].grid
        assert grid is not None, "the set has one grid"
        values = grid.astype(source.dtype.newbyteorder("<"))
        dataset = file.create_dataset(self.columns.wavelength, data=values)
        copy_attributes(source, dataset)
        column = ColumnHash()
        column.update(values)
        return column.hexdigest()

    def _write_pixels(self, file: h5py.File, sink: Sink) -> dict[str, str]:
        shape = (len(self.spectra), self.spectra.num_pixels)
        outputs = {name: self._create_pixels(file, name, shape) for name in PIXELS}
        read, kept = ({name: ColumnHash() for name in PIXELS} for _ in range(2))
        step = self.rows_at_once(shape)
        done = 0
        with ThreadPoolExecutor(len(PIXELS), thread_name_prefix="hash-columns") as pool:
            for block in read_blocks(self.files, self.columns, step, self._expected()):
                values = {"flux": block.flux, "ivar": block.ivar}
                rounded = self._rounded(block)
                begin, end = block.begin, block.begin + len(block.flux)
                hashing = [pool.submit(kept[name].update, rounded[name]) for name in PIXELS]
                if self.is_lossy:
                    hashing += [pool.submit(read[name].update, values[name]) for name in PIXELS]
                for name in PIXELS:
                    outputs[name][begin:end] = rounded[name]
                for future in hashing:
                    future.result()
                sink.check()
                done += sum(array.nbytes for array in rounded.values())
                self.on_progress("writing", done, self._pixel_bytes)
        self._check_loss()
        for name in PIXELS:
            if self.is_lossy:
                outputs[name].attrs["source_sha256"] = read[name].hexdigest()
        return {getattr(self.columns, name): kept[name].hexdigest() for name in PIXELS}

    def _expected(self) -> dict[Path, dict[str, str]]:
        """Return the hashes of pixel columns that the inputs store."""
        names = {name: getattr(self.columns, name) for name in PIXELS}
        return {
            path: {name: stored.columns[column] for name, column in names.items() if column in stored.columns}
            for path, stored in self._stored.items()
        }

    def rows_at_once(self, shape: tuple[int, int]) -> int:
        """Return the number of rows to read at once: whole chunks of the target, and of the source if possible."""
        step = max(1, BLOCK_BYTES // (4 * shape[1]))
        chunk = self.target.creation(shape, np.dtype(np.float32)).get("chunks", (1,))[0]
        bands = max(file.band_rows for file in self.files)
        whole = int(np.lcm(chunk, bands))
        unit = whole if whole <= 2 * step else max(chunk, bands)
        return max(1, step // unit) * unit if unit <= step else (chunk if self.target.is_compressed else step)

    def _create_pixels(self, file: h5py.File, name: str, shape: tuple[int, int]) -> h5py.Dataset:
        dtype = self._dtypes[name]
        dataset = file.create_dataset(
            getattr(self.columns, name), shape=shape, dtype=dtype, **self.target.creation(shape, dtype)
        )
        with open_library_file(self.files[0].path) as library:
            source = library[getattr(self.columns, name)]
            # The values now include their scale and zero point.
            copy_attributes(source, dataset, OF_SCALED_NUMBERS)
        stored = sorted({pixel_reader(one, name).dtype.str for one in self.files})
        dataset.attrs["source_dtype"] = ", ".join(stored)
        if self.target.quantise:
            dataset.attrs["quantised"] = STEP_RULE
        return dataset

    def _rounded(self, block: PixelBlock) -> dict[str, np.ndarray]:
        if self.target.quantise:
            flux, ivar = quantise(block.flux, block.ivar)
        else:
            with np.errstate(over="ignore"):
                flux = block.flux.astype(self._dtypes["flux"], copy=False)
                ivar = block.ivar.astype(self._dtypes["ivar"], copy=False)
        if self.is_lossy:
            self.loss.add(block.flux, block.ivar, flux, ivar)
        return {"flux": flux, "ivar": ivar}

    def _check_loss(self) -> None:
        if self.loss.num_overflows:
            raise DataError(
                f"{self.files[0].path}: {self.loss.num_overflows:,} values are too large for float16 (65504); use "
                "float32, --quantise or another unit; nothing was written"
            )
        if self.loss.num_lost_weights > 1e-3 * self.loss.as_dict()["num_pixels"]:
            raise DataError(
                f"{self.files[0].path}: {self.loss.num_lost_weights:,} pixels would lose their weight, because their "
                "ivar is too small for float16 (6e-8); use float32, --quantise or another unit; nothing was written"
            )

    def _write_column(self, file: h5py.File, sink: Sink, name: str) -> str | None:
        """Write a column unchanged except for its byte order; return its hash."""
        dtype, tail = column_dtype(self.files, name)
        if h5py.check_ref_dtype(dtype) is not None:
            self.notes.append(f"{name}: not copied, because it refers to positions in the old file")
            return None
        shape = (len(self.spectra), *tail)
        is_text = dtype.kind == "O"
        is_pixels = len(tail) > 0 and not is_text and int(np.prod(tail)) >= 64
        options = self.target.creation(shape, dtype) if is_pixels else {}
        dataset = file.create_dataset(name, shape=shape, dtype=dtype, **options)
        with open_library_file(self.files[0].path) as library:
            copy_attributes(library[name], dataset)
        column, begin = ColumnHash(), 0
        for values in column_blocks(self.files, name):
            if not is_text:
                values = values.astype(dtype, copy=False)
            dataset[begin : begin + len(values)] = values
            sink.check()
            column.update(values)
            begin += len(values)
            self.on_progress("writing other columns", begin, len(self.spectra))
        return column.hexdigest()
