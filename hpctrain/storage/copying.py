"""What rewriting a file of spectra needs of the disk: copies of single datasets, leftovers, errors, an empty cache."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.files import SpectraFile
from hpctrain.samples.library import open_library_file
from hpctrain.storage.attributes import copy_attributes
from hpctrain.storage.reading import hash_stored


def pixel_reader(file: SpectraFile, name: str) -> Any:
    return file.flux if name == "flux" else file.ivar


def history_of(path: Path) -> Any:
    """Return the record of an input's own repacking."""
    with open_library_file(path) as library:
        text = library.attrs.get("repacked")
    with contextlib.suppress(TypeError, ValueError):
        return json.loads(text)
    return None


def copy_dataset(source: h5py.Dataset, file: h5py.File, name: str) -> str | None:
    """Copy a dataset unchanged; return the hash of the source."""
    parent, _, last = name.rpartition("/")
    group = file.require_group(parent) if parent else file
    source.file.copy(source, group, name=last, without_attrs=True)
    copy_attributes(source, group[last])
    return None if h5py.check_ref_dtype(source.dtype) else hash_stored(Path(source.file.filename), source.name)


def empty_cache(path: Path) -> None:
    """Drop a file from the page cache if the system allows it, so that reading it back reads the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def remove_leftovers(out: Path) -> list[str]:
    """Remove temporary files that killed processes of this host left; return notes on them and other hosts' files."""
    notes = []
    for path in out.parent.glob(f".{glob.escape(out.name)}.*.repack"):
        host, _, number = path.name.removeprefix(f".{out.name}.").removesuffix(".repack").rpartition(".")
        if host != socket.gethostname():
            notes.append(f"{path}: left by a process of {host}, which may still be writing it")
        elif not Path(f"/proc/{number}").exists():
            with contextlib.suppress(OSError):
                path.unlink()
                notes.append(f"{path}: left by a process that was killed; removed")
    return notes


@contextlib.contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: libhdf5 closes a file that it could not write
        text = str(error)
        known = ("No space left on device", "Disk quota exceeded", "Read-only file system", "Input/output error")
        reason = next((words for words in known if words in text), getattr(error, "strerror", None) or text)
        raise DataError(f"{out}: cannot be written: {reason}; nothing was left there") from error
