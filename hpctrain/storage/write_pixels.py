"""Write flux and ivar of a repacked file block by block, rounded if the target asks for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np

from hpctrain.errors import DataError
from hpctrain.samples.fingerprint import ColumnHash
from hpctrain.samples.library import open_library_file
from hpctrain.samples.sink import Sink
from hpctrain.storage.attributes import OF_SCALED_NUMBERS, copy_attributes
from hpctrain.storage.copying import pixel_reader
from hpctrain.storage.loss import Loss
from hpctrain.storage.pixels import PixelBlock, read_blocks
from hpctrain.storage.plan import Plan
from hpctrain.storage.quantise import STEP_RULE, quantise
from hpctrain.storage.readback import PIXELS


def write_pixels(
    plan: Plan, file: h5py.File, sink: Sink, on_progress: Callable[[str, int, int], None]
) -> tuple[dict[str, str], Loss]:
    """Write both columns.

    Parameters
    ----------
    plan : Plan
    file : h5py.File
        The new file.
    sink : Sink
        What the file is written to.
    on_progress : callable
        Receives the current activity, the bytes done and the bytes in total.

    Returns
    -------
    hashes : dict of str
        SHA-256 of each column as it was written.
    loss : Loss
        What rounding has cost; nothing if no value was rounded.

    Raises
    ------
    DataError
        A source is damaged or differs from its SHA-256, or float16 cannot hold its values.
    """
    outputs = {name: _create(plan, file, name) for name in PIXELS}
    read, kept = ({name: ColumnHash() for name in PIXELS} for _ in range(2))
    loss, done = Loss(), 0
    with ThreadPoolExecutor(len(PIXELS), thread_name_prefix="hash-columns") as pool:
        for block in read_blocks(plan.files, plan.columns, plan.rows_at_once(plan.shape), _expected(plan)):
            values = {"flux": block.flux, "ivar": block.ivar}
            rounded = _rounded(plan, block)
            if plan.is_lossy:
                loss.add(block.flux, block.ivar, rounded["flux"], rounded["ivar"])
            begin, end = block.begin, block.begin + len(block.flux)
            hashing = [pool.submit(kept[name].update, rounded[name]) for name in PIXELS]
            if plan.is_lossy:
                hashing += [pool.submit(read[name].update, values[name]) for name in PIXELS]
            for name in PIXELS:
                outputs[name][begin:end] = rounded[name]
            for future in hashing:
                future.result()
            sink.check()
            done += sum(array.nbytes for array in rounded.values())
            on_progress("writing", done, plan.pixel_bytes)
    _refuse_loss(loss, plan.files[0].path)
    if plan.is_lossy:
        for name in PIXELS:
            outputs[name].attrs["source_sha256"] = read[name].hexdigest()
    return {plan.name_of(name): kept[name].hexdigest() for name in PIXELS}, loss


def _create(plan: Plan, file: h5py.File, name: str) -> h5py.Dataset:
    dtype = plan.dtypes[name]
    options = plan.target.creation(plan.shape, dtype)
    dataset = file.create_dataset(plan.name_of(name), shape=plan.shape, dtype=dtype, **options)
    with open_library_file(plan.files[0].path) as library:
        # The values now include their scale and zero point.
        copy_attributes(library[plan.name_of(name)], dataset, OF_SCALED_NUMBERS)
    stored = sorted({pixel_reader(one, name).dtype.str for one in plan.files})
    dataset.attrs["source_dtype"] = ", ".join(stored)
    if plan.target.quantise:
        dataset.attrs["quantised"] = STEP_RULE
    return dataset


def _expected(plan: Plan) -> dict[Path, dict[str, str]]:
    """Return the hashes of pixel columns that the sources store."""
    return {
        path: {name: stored.columns[plan.name_of(name)] for name in PIXELS if plan.name_of(name) in stored.columns}
        for path, stored in plan.stored.items()
    }


def _rounded(plan: Plan, block: PixelBlock) -> dict[str, np.ndarray]:
    if plan.target.quantise:
        flux, ivar = quantise(block.flux, block.ivar)
    else:
        with np.errstate(over="ignore"):
            flux = block.flux.astype(plan.dtypes["flux"], copy=False)
            ivar = block.ivar.astype(plan.dtypes["ivar"], copy=False)
    return {"flux": flux, "ivar": ivar}


def _refuse_loss(loss: Loss, path: Path) -> None:
    """Raise if float16 cannot hold the values.

    Raises
    ------
    DataError
        Values became infinite, or more than one pixel in a thousand lost its weight.
    """
    if loss.num_overflows:
        raise DataError(
            f"{path}: {loss.num_overflows:,} values are too large for float16 (65504); use float32, --quantise or "
            "another unit; nothing was written"
        )
    if loss.num_lost_weights > 1e-3 * loss.as_dict()["num_pixels"]:
        raise DataError(
            f"{path}: {loss.num_lost_weights:,} pixels would lose their weight, because their ivar is too small for "
            "float16 (6e-8); use float32, --quantise or another unit; nothing was written"
        )
