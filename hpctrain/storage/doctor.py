"""Collect all findings of `hpctrain data doctor` about files of spectra."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.hdf5 import SpectraSet
from hpctrain.kinds.spectra.plausible import inspect_spectra
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.profile.inspection import ERROR, Inspection
from hpctrain.samples.fingerprint import stored_hashes
from hpctrain.storage.filesystem import FileSystem, advised_stripes, file_system_of
from hpctrain.storage.findings import SHUFFLE_WINDOW, Finding, find
from hpctrain.storage.layout import ColumnLayout, pixel_layouts
from hpctrain.storage.opening import files_of, open_set
from hpctrain.storage.speed import Speed, measure_decoding, measure_disk, measure_memory_copy, measure_rows
from hpctrain.storage.values import BadValues, count_bad_values
from hpctrain.storage.verify import Verdict, verify_file

READER_THREADS, PREFETCH_BATCHES, BATCH_SIZE = 2, 4, 128
"""Defaults of the profile, for which the figures hold."""

A100_SPECTRA_PER_S = (5_000, 15_000)
"""Estimated training speed of an A100 at 10 to 30 % of its peak: 5.8 GFLOP per spectrum of 7,781 pixels."""
A100_PIXELS = 7781

_MANY = 20


@dataclass
class Examination:
    """What was found."""

    files: list[str]
    num_spectra: int
    num_pixels: int
    file_bytes: int
    systems: dict[str, FileSystem]
    layouts: dict[str, list[ColumnLayout]]
    speeds: dict[str, Speed]
    """Speeds of ``disk``, ``rows_cold``, ``rows_warm``, ``memory_copy``, and of ``decoding`` if data are compressed."""
    findings: list[Finding]
    advice: list[str]
    """Commands to run, and other advice."""
    values: BadValues
    is_full: bool
    memory: dict[str, int]
    """Bytes of the ``ring`` and ``window`` of each rank, and bytes that are ``free`` on this machine now."""
    hashes: dict[str, str]
    inspection: Inspection
    """Whether the spectra are plausible, with the default of ``data.normalise``."""
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def spectrum_bytes(self) -> int:
        """Bytes of flux and ivar of one spectrum in a batch."""
        return self.memory["spectrum"]

    @property
    def exit_code(self) -> int:
        """Return 4 if a column differs from its hash or a network can learn nothing from the spectra, else 0."""
        return 4 if any(verdict.wrong for verdict in self.verdicts) or self.inspection.texts(ERROR) else 0

    def num_a100(self, speed: Speed) -> tuple[float, float]:
        """Return the estimated lowest and highest number of A100 for which a speed is enough."""
        scale = A100_PIXELS / self.num_pixels
        slow, fast = A100_SPECTRA_PER_S
        spectra_per_s = speed.spectra_per_s or 0.0
        return spectra_per_s / (fast * scale), spectra_per_s / (slow * scale)

    def as_dict(self) -> dict[str, Any]:
        """Return all findings as plain values for JSON."""
        facts = asdict(self)
        for verdict in facts["verdicts"]:
            verdict["path"] = str(verdict["path"])
        for name, speed in self.speeds.items():
            if speed.spectra_per_s is not None:
                facts["speeds"][name]["num_a100_estimate"] = self.num_a100(speed)
            if speed.cached != speed.cached:  # JSON has no NaN
                facts["speeds"][name]["cached"] = None
        return facts


def examine(
    files: Sequence[str],
    columns: Mapping[str, str],
    full: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Examination:
    """Examine files that together are one set.

    Parameters
    ----------
    files : sequence of str
        Names or glob patterns.
    columns : mapping
        Our name of each column to its name in the files.
    full : bool
        Read all values, and check the hashes.
    on_progress : callable, optional

    Returns
    -------
    Examination

    Raises
    ------
    DataError
        Files cannot be opened, do not fit together, or have rows that cannot be read. The message lists all problems.
    """
    spectra, names, notes = open_set(files, columns)
    opened = files_of(spectra)
    by_role = {role: name for role, name in names if name is not None}
    layouts = {file.path: pixel_layouts(file, by_role) for file in opened}
    systems = {file.path: file_system_of(file.path) for file in opened}
    sizes = {file.path: file.path.stat().st_size for file in opened}
    problems: list[str] = []
    notes += _busy()
    # Measure the speed first: mapped pages cannot be dropped from memory afterwards.
    speeds = _measure(spectra, layouts, problems)
    values, unreadable = count_bad_values(spectra, names, full, on_progress)
    problems += [problem for problem in unreadable if problem not in problems]
    if problems:
        more = [f"... and {len(problems) - _MANY} more"] if len(problems) > _MANY else []
        raise DataError("\n".join([*problems[:_MANY], *more]))
    inspection = inspect_spectra(spectra, np.arange(len(spectra)), SpectraSection(files=list(files)))
    findings = find(layouts, systems, sizes, spectra.wavelength_aa is not None)
    hashes = {str(file.path): stored_hashes(file.path).state for file in opened}
    spectrum_bytes = sum(reader.out_dtype.itemsize for reader in (opened[0].flux, opened[0].ivar)) * spectra.num_pixels
    return Examination(
        files=[str(file.path) for file in opened],
        num_spectra=len(spectra),
        num_pixels=spectra.num_pixels,
        file_bytes=sum(sizes.values()),
        systems={str(path): system for path, system in systems.items()},
        layouts={str(path): columns for path, columns in layouts.items()},
        speeds=speeds,
        findings=findings,
        advice=_advice(findings, opened[0].path, files, columns, sum(sizes.values()), len(spectra) * spectrum_bytes),
        values=values,
        is_full=full,
        memory={
            "spectrum": spectrum_bytes,
            "ring": (PREFETCH_BATCHES + READER_THREADS + 1) * BATCH_SIZE * spectrum_bytes,
            "window": min(2 * SHUFFLE_WINDOW, len(spectra)) * spectra.decoded_bytes,
            "free": _free_memory(),
        },
        hashes=hashes,
        inspection=inspection,
        verdicts=[verify_file(file.path, on_progress) for file in opened] if full else [],
        notes=[*notes, *spectra.notes],
    )


def _measure(spectra: SpectraSet, layouts: dict[Path, list[ColumnLayout]], problems: list[str]) -> dict[str, Speed]:
    largest = max(layouts, key=lambda path: path.stat().st_size)
    speeds: dict[str, Speed] = {}
    try:
        speeds["disk"] = measure_disk(largest)
        speeds["rows_cold"], speeds["rows_warm"] = measure_rows(spectra, layouts, READER_THREADS)
        decoding = measure_decoding(largest, layouts[largest][0])
        if decoding is not None:
            speeds["decoding"] = decoding
    except DataError as error:
        problems.append(str(error))  # counting the values finds the other problems
    except OSError as error:
        problems.append(f"{largest}: cannot be read ({error.strerror or error})")
    speeds["memory_copy"] = measure_memory_copy()
    return speeds


def _advice(
    findings: list[Finding],
    first: Path,
    files: Sequence[str],
    columns: Mapping[str, str],
    file_bytes: int,
    plain_bytes: int,
) -> list[str]:
    helps = {finding.helped_by for finding in findings}
    named = "".join(f" --column {ours}={shlex.quote(theirs)}" for ours, theirs in columns.items())
    out = shlex.quote(str(first.with_name(f"{first.stem}-fast.h5")))
    command = f"hpctrain data repack {shlex.join(files)}{named} --out {out}"
    advice = []
    if "install" in helps:
        advice.append("pip install 'hpctrain[filters]'")
    if "stripes" in helps:
        stripes = advised_stripes(file_bytes)
        advice.append(f"lfs setstripe -c {stripes} -S 4M DIRECTORY    # before writing a copy into it")
    if helps & {"repack", "stripes"}:
        advice.append(f"{command}    # {size_text(plain_bytes)} instead of {size_text(file_bytes)}")
    if "stage" in helps:
        smaller = command.replace("-fast.h5", "-small.h5")
        advice.append(f"{smaller} --quantise    # a quarter of the bytes, 0.07 % more variance")
    if "ingest" in helps:
        advice.append("hpctrain ingest    # from the survey's own files, onto one wavelength grid")
    return advice


def _busy() -> list[str]:
    """Return a note if other programs use the machine that is about to be measured."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load < 0.5 * cores:
        return []
    return [f"this machine is busy (load {load:.1f} on {cores} cores): an idle one is faster than the figures below"]


def size_text(num_bytes: float) -> str:
    """Return a size in MB or GB."""
    return f"{num_bytes / 1e9:,.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.2f} MB"


def _free_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
