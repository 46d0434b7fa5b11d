"""Rewrite files of spectra in the layout that reads fastest, and check them by reading them back.

The rows are processed in blocks, so that memory does not grow with the files. The new file keeps a hidden temporary
name until the reader of the trainer has read back every column, and its SHA-256 agrees with that of the source.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctrain.rundir import fsync_directory
from hpctrain.samples.fingerprint import settle_time, write_hashes
from hpctrain.samples.sink import new_hdf5_file, require_free
from hpctrain.storage.copying import disk_errors, empty_cache, remove_leftovers
from hpctrain.storage.loss import Loss
from hpctrain.storage.opening import open_set
from hpctrain.storage.plan import Plan, make_plan
from hpctrain.storage.readback import read_back
from hpctrain.storage.target import Target
from hpctrain.storage.write_others import copy_groups, copy_shared, write_columns, write_history
from hpctrain.storage.write_pixels import write_pixels

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
    on_progress = on_progress or (lambda *_: None)
    out = Path(os.path.realpath(out))  # a link remains, and points to the new file
    require_free(out, overwrite)
    spectra, names, notes = open_set(inputs, columns or {})
    plan = make_plan(spectra, names, target, set(drop), trust=ignore_hashes)
    source_bytes = plan.source_bytes  # before `out` may replace a source
    notes += [*plan.conversions(), *remove_leftovers(out)]
    with _temporary(out) as temporary:
        with disk_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            plan.check_room(out)
            known, loss = _write(plan, temporary, on_progress, notes)
            empty_cache(temporary)
        read_back(temporary, known, names, plan.rows_at_once, on_progress)
        _publish(temporary, out, overwrite)
    return Repacked(
        out=out,
        num_spectra=len(spectra),
        num_pixels=spectra.num_pixels,
        source_bytes=source_bytes,
        out_bytes=out.stat().st_size,
        seconds=time.monotonic() - started_s,
        num_verified=len(known),
        loss=loss.as_dict() if plan.is_lossy else None,
        loss_text=str(loss) if plan.is_lossy else "",
        notes=notes,
    )


@contextlib.contextmanager
def _temporary(out: Path) -> Iterator[Path]:
    """Yield a hidden name beside `out`; remove what still has this name in the end."""
    path = out.with_name(f".{out.name}.{socket.gethostname()}.{os.getpid()}.repack")
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _publish(temporary: Path, out: Path, overwrite: bool) -> None:
    with disk_errors(out):
        settle_time(temporary)
        require_free(out, overwrite)
        os.replace(temporary, out)
        fsync_directory(out.parent)


def _write(plan: Plan, path: Path, on_progress: Progress, notes: list[str]) -> tuple[dict[str, str], Loss]:
    """Write the file; return the SHA-256 of each column after rounding, and what rounding has cost."""
    with new_hdf5_file(path, alignment_threshold=2**20, alignment_interval=_ALIGNMENT) as (file, sink):
        copy_groups(plan, file)
        write_history(plan, file)
        known = copy_shared(plan, file)
        of_pixels, loss = write_pixels(plan, file, sink, on_progress)
        known |= of_pixels
        known |= write_columns(plan, file, sink, on_progress, notes)
        write_hashes(file, known)
    return known, loss
