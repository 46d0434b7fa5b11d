"""Converts many survey files into one HDF5 file: read, select, resample, write, count.

A broken file is reported with its reason, and reading continues with the others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import hpctrain
from hpctrain.credentials.hide import own_command
from hpctrain.errors import DataError
from hpctrain.files import creation_stamp
from hpctrain.ingest.carried import CarriedColumns
from hpctrain.ingest.identifiers import position_ids, sdss_ids
from hpctrain.ingest.missing_redshifts import Estimator, fill_missing
from hpctrain.ingest.process import IngestPlan, ReadyRows, process_all, read_guarded
from hpctrain.ingest.tally import Tally
from hpctrain.ingest.writer import SpectraWriter
from hpctrain.kinds.spectra.grids import desi_grid, sdss_grid
from hpctrain.kinds.spectra.layout import FORMAT, FORMAT_VERSION
from hpctrain.preprocess.grid import find_offset
from hpctrain.samples.sink import require_free


@dataclass
class IngestResult:
    """What an ingest did."""

    tally: Tally
    wavelength_aa: np.ndarray
    grid_name: str
    seconds: float
    num_objects: int
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **self.tally.as_dict(),
            "objects": self.num_objects,
            "grid": self.grid_name,
            "pixels": len(self.wavelength_aa),
            "wavelength_aa": [float(self.wavelength_aa[0]), float(self.wavelength_aa[-1])],
            "seconds": round(self.seconds, 3),
            "warnings": self.warnings,
        }


def run_ingest(
    plan: IngestPlan,
    progress: Callable[[Path, Tally], None] | None = None,
    estimator: Estimator | None = None,
) -> IngestResult:
    """Read, select, resample and write.

    Parameters
    ----------
    plan : IngestPlan
    progress : callable, optional
        Called after each file with its path and the counts so far.
    estimator : Estimator, optional
        Estimates redshifts that are missing.

    Raises
    ------
    DataError
        Nothing was kept, or the output cannot be written.
    """
    started = time.monotonic()
    require_free(plan.out, plan.overwrite)
    total = Tally()
    wavelength, grid_name = choose_grid(plan)
    upsampling = 1.0
    seen: set[tuple[int, ...]] = set()
    carried = CarriedColumns(plan.meanings)
    with SpectraWriter(plan.out, wavelength, plan.overwrite, carried, plan.flux_unit) as writer:
        for index, item in process_all(plan, wavelength):
            if isinstance(item, Tally):
                item.num_files = 1
                total.add(item)
                if progress is not None:
                    progress(plan.paths[index], total)
                continue
            rows = _without_duplicates(item, seen, total)
            room = None if plan.limit is None else plan.limit - writer.num_rows
            kept = slice(0, room)
            num_over = len(rows.flux) - len(rows.flux[kept])
            if num_over:
                total.dropped["beyond --limit"] += num_over
            if len(rows.flux[kept]):
                columns = {name: values[kept] for name, values in rows.columns.items()}
                columns["source_file"] = np.full(len(rows.flux[kept]), index)
                writer.append(rows.flux[kept], rows.ivar[kept], columns)
                total.num_kept = writer.num_rows
                upsampling = max(upsampling, rows.upsampling)
            if plan.limit is not None and writer.num_rows >= plan.limit:
                total.num_files += 1
                total.num_read = writer.num_rows + total.num_dropped + total.num_merged
                break
        total.num_kept = writer.num_rows
        _require_something(total)
        if plan.ids_by_position:
            _name_objects(writer, plan.survey)
        estimates = {} if estimator is None else fill_missing(writer, estimator, total)
        remarks = _warnings(writer, total, upsampling, plan, estimator is not None)
        num_objects = len(np.unique(writer.column("target_id")))
        seconds = time.monotonic() - started
        result = IngestResult(total, wavelength, grid_name, seconds, num_objects, remarks)
        provenance = _provenance(plan, result) | ({"redshift_estimates": estimates} if estimates else {})
        writer.finish(provenance, [str(path) for path in plan.paths])
    result.seconds = time.monotonic() - started
    return result


def choose_grid(plan: IngestPlan) -> tuple[np.ndarray, str]:
    """Return the common grid and its name; for ``auto`` and ``native`` the first readable spectrum decides."""
    if not isinstance(plan.grid, str):
        return plan.grid, _grid_name(plan.grid)
    for path in plan.paths:
        for block in read_guarded(plan.reader, path, Tally()):
            if len(block.wavelength_aa) < 2:
                continue
            if plan.grid == "auto":
                for name, grid in (("desi", desi_grid()), ("sdss", sdss_grid())):
                    if find_offset(block.wavelength_aa, grid) is not None:
                        return grid, f"{name} (auto)"
            return block.wavelength_aa, "native (of the first spectrum)"
    tally = Tally()
    for path in plan.paths:
        for _ in read_guarded(plan.reader, path, tally):
            pass
    _require_something(tally)
    raise AssertionError("unreachable: nothing was kept")


def _grid_name(grid: np.ndarray) -> str:
    for name, known in (("desi", desi_grid()), ("sdss", sdss_grid())):
        if len(grid) == len(known) and np.array_equal(grid, known):
            return name
    steps = np.diff(grid)
    return f"linear, {steps[0]:.6g} AA" if np.allclose(steps, steps[0]) else f"log10, {np.log10(grid[1] / grid[0]):.6g}"


def _without_duplicates(rows: ReadyRows, seen: set[tuple[int, ...]], total: Tally) -> ReadyRows:
    if rows.duplicate_keys is None:
        return rows
    fresh = []
    for row, key in enumerate(rows.duplicate_keys):
        if key not in seen:
            seen.add(key)
            fresh.append(row)
    if len(fresh) == len(rows.duplicate_keys):
        return rows
    total.dropped["same plate-mjd-fibre as an earlier file"] += len(rows.duplicate_keys) - len(fresh)
    columns = {name: values[fresh] for name, values in rows.columns.items()}
    return ReadyRows(rows.flux[fresh], rows.ivar[fresh], columns, None, rows.upsampling)


def _require_something(total: Tally) -> None:
    if total.num_kept:
        return
    lines = [f"no spectrum was kept of {total.num_read} in {max(total.num_files, len(total.failed_files))} files"]
    lines += [f"  {count} dropped: {reason}" for reason, count in total.dropped.most_common()]
    failures = total.failures()
    lines += [f"  {line}" for line in failures[:20]]
    if len(failures) > 20:
        lines.append(f"  and {len(failures) - 20} more reasons or files")
    raise DataError("\n".join(lines))


def _name_objects(writer: SpectraWriter, survey: str) -> None:
    ra, dec, plate, mjd, fiber = (writer.column(name) for name in ("ra", "dec", "plate", "mjd", "fiber"))
    if survey == "sdss":
        writer.replace_column("target_id", sdss_ids(ra, dec, plate, mjd, fiber))
    else:
        writer.replace_column("target_id", position_ids(ra, dec, mjd, writer.column("target_id")))


def _warnings(writer: SpectraWriter, total: Tally, upsampling: float, plan: IngestPlan, estimated: bool) -> list[str]:
    remarks = []
    _note_classes(writer, total)
    without = int(np.isnan(writer.column("redshift")).sum())
    if without:
        how = "--redshifts TABLE.fits joins redshifts by TARGETID, " if plan.survey == "desi" else ""
        how += "" if estimated else "--redshifts estimate estimates them from the spectra, "
        remarks.append(
            f"{without} of {writer.num_rows} spectra have no redshift (NaN) and carry no weight in training, unless "
            f"the model needs no redshifts; {how}--need-redshift drops such spectra"
        )
    if upsampling > 1.01:
        text = f"the grid is up to {upsampling:.1f}x finer than the data: neighbouring pixels are correlated"
        overcounted = ", and the sum of ivar counts their information several times (--ivar conserve does not)"
        remarks.append(text + (overcounted if plan.ivar_convention == "per_pixel" else ""))
    if plan.ids_by_position and np.isnan(writer.column("ra")).any():
        remarks.append("spectra without a position: target id made of plate, mjd, fibre; repeats not recognised")
    return remarks


def _note_classes(writer: SpectraWriter, total: Tally) -> None:
    """Note how many of the kept spectra have a redshift warning or are stars, with the option that drops them."""
    doubtful = int((writer.column("zwarn") > 0).sum())
    if doubtful:
        total.remarks["redshift warning (ZWARN is not 0); --zwarn good drops such spectra"] = doubtful
    stars = int((np.char.strip(writer.column("spectype")) == b"STAR").sum())
    if 0 < stars < writer.num_rows:
        total.remarks["stars by their class; --spectype QSO,GALAXY drops them"] = stars


def _provenance(plan: IngestPlan, result: IngestResult) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "hpctrain_version": hpctrain.__version__,
        "created_at": creation_stamp(),
        "command": " ".join(own_command()),
        "working_directory": os.getcwd(),
        "survey": plan.survey,
        "grid": result.grid_name,
        "ivar_convention": plan.ivar_convention,
        "counts": {key: value for key, value in result.tally.as_dict().items() if key != "failed_files"},
        "num_failed_files": len(result.tally.failed_files),
    }
