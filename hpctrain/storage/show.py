"""The doctor's findings as text."""

from __future__ import annotations

import math
from collections import Counter

from hpctrain.profile.inspection import ERROR, NOTE, WARNING
from hpctrain.samples.fingerprint import NOT_HASHED
from hpctrain.storage.doctor import A100_SPECTRA_PER_S, READER_THREADS, Examination, size_text
from hpctrain.storage.speed import Speed

_WAYS = {
    "block": "copied out of a memory map",
    "chunks": "copied out of a memory map, chunk by chunk",
    "decoded": "decoded in threads, without libhdf5's lock",
    "libhdf5": "through libhdf5, one thread at a time",
}


def as_text(found: Examination) -> str:
    """Return a page for a terminal."""
    parts = [_head(found), _plausibility(found), _speed(found), _why(found), _values(found), _memory(found)]
    return "\n\n".join("\n".join(part) for part in parts)


def _plausibility(found: Examination) -> list[str]:
    seen = found.inspection
    accepted = f"; {seen.num_inspected - seen.num_rejected:,} would be trained on" if seen.num_inspected else ""
    lines = [f"Plausibility: {seen.num_inspected:,} spectra inspected{accepted}"]
    for severity, title in ((ERROR, "ERROR"), (WARNING, "WARNING"), (NOTE, "note")):
        lines += [f"  {title}: {text}" for text in seen.texts(severity)]
    return lines if seen.remarks else [*lines, "  the spectra look plausible"]


def _head(found: Examination) -> list[str]:
    what = found.files[0] if len(found.files) == 1 else f"{len(found.files):,} files, {found.files[0]} ..."
    systems = ", ".join(dict.fromkeys(str(system) for system in found.systems.values()))
    size = size_text(found.file_bytes)
    lines = [f"{what}: {found.num_spectra:,} spectra of {found.num_pixels:,} pixels, {size} on {systems}"]
    kinds = Counter(
        (column.name, str(column), _WAYS[column.way]) for columns in found.layouts.values() for column in columns
    )
    for (name, layout, way), count in list(kinds.items())[:12]:
        of_files = _of_files(count, found)
        lines.append(f"  {name}: {layout}; {way}{of_files}")
    lines += [f"  note: {note}" for note in found.notes]
    return lines


def _speed(found: Examination) -> list[str]:
    lines = [f"Speed, measured on this machine now with {READER_THREADS} reader threads"]
    names = {
        "disk": "disk, in order",
        "rows_cold": "random rows, first time",
        "rows_warm": "random rows, again",
        "decoding": "decoding, one core",
        "memory_copy": "copying memory, one core",
    }
    for name, title in names.items():
        speed = found.speeds.get(name)
        if speed is None:
            continue
        per_s = speed.spectra_per_s or speed.bytes_per_s / found.spectrum_bytes
        line = f"  {title:<25}{per_s:>11,.0f} spectra/s {speed.bytes_per_s / 1e9:>7.2f} GB/s"
        if name == "disk":
            # The disk delivers bytes of the file; the same bytes of a batch may hold more or fewer spectra.
            per_s = speed.bytes_per_s / (found.file_bytes / found.num_spectra)
            line = f"  {title:<25}{per_s:>11,.0f} spectra/s {speed.bytes_per_s / 1e9:>7.2f} GB/s"
        if name in ("rows_cold", "rows_warm"):
            line += f"   {_gpus(*found.num_a100(speed))}"
        lines.append(line)
        if name in ("disk", "rows_cold"):
            lines += _cold_remark(speed)
    slow, fast = A100_SPECTRA_PER_S
    lines.append(
        f"  An A100 trains on {slow:,} to {fast:,} spectra of 7,781 pixels a second: an estimate, not a measurement."
    )
    return lines


def _cold_remark(speed: Speed) -> list[str]:
    if math.isnan(speed.cached):
        return ["    (this system does not report whether it came from disk or from memory)"]
    if speed.cached < 0.05:
        return []
    share = f"{100 * speed.cached:.0f} % of it came from memory"
    return [f"    ({share}, which the system keeps, as on tmpfs: the disk may be slower)"]


def _gpus(least: float, most: float) -> str:
    if most < 1:
        return f"enough for {100 * least:.0f} to {100 * most:.0f} % of an A100 (estimate)"
    low, high = (f"{number:,.1f}" if number < 10 else f"{number:,.0f}" for number in (least, most))
    return f"enough for about {low} to {high} A100 (estimate)"


def _why(found: Examination) -> list[str]:
    if not found.findings:
        return ["The layout is the fastest there is: nothing to repack."]
    lines = ["Why it is not faster"]
    for finding in found.findings:
        of_files = _of_files(finding.num_files, found)
        lines.append(f"  - {finding.text}{of_files}")
    if found.advice:
        lines += ["", "What to do", *(f"  {line}" for line in found.advice)]
    return lines


def _values(found: Examination) -> list[str]:
    counts = found.values
    looked = (
        "all rows" if counts.num_rows == found.num_spectra else f"{counts.num_rows:,} of {found.num_spectra:,} rows"
    )
    more = "" if counts.num_rows == found.num_spectra else "; --full reads all"
    masked = 100 * counts.num_masked / max(1, counts.num_pixels)
    lines = [
        f"Values of {looked}{more}",
        f"  flux   {counts.flux_nan:,} NaN, {counts.flux_infinite:,} infinite, of {counts.num_pixels:,} pixels"
        f"; {counts.flux_bad_with_weight:,} of these have weight, and training masks them",
        f"  ivar   {counts.ivar_nan:,} NaN, {counts.ivar_infinite:,} infinite, {counts.ivar_negative:,} negative",
        f"  masked {masked:.2f} % of the pixels; {counts.rows_without_weight:,} rows are fully masked",
        f"  {counts.rows_without_redshift:,} of all {found.num_spectra:,} rows have no redshift and carry no weight",
        f"  {counts.rows_of_repeated_targets:,} of all rows share their target_id with another"
        f" ({counts.num_targets:,} targets); they stay on one side of the split",
    ]
    if counts.num_targets == 1 and found.num_spectra > 1:
        lines.append("  all rows have one target_id: no split is possible")
    if found.verdicts:
        return [*lines, "SHA-256", *(f"  {line}" for verdict in found.verdicts for line in str(verdict).splitlines())]
    states = Counter(found.hashes.values())
    for state, count in states.items():
        of_files = _of_files(count, found)
        advice = (
            "repack writes them" if state.startswith(NOT_HASHED) else "--full or `hpctrain data verify` checks them"
        )
        lines.append(f"  SHA-256 of the columns: {state}{of_files}; {advice}")
    return lines


def _memory(found: Examination) -> list[str]:
    memory = found.memory
    window = f" + {size_text(memory['window'])} for two decoded shuffle windows" if memory["window"] else ""
    free, size = memory["free"], found.file_bytes
    fits = "fits" if size < free else "does not fit"
    after = "later epochs come from memory" if size < free else "every epoch comes from the disk"
    return [
        "Memory for training",
        f"  {size_text(memory['ring'])} of batches of 128{window} per rank",
        f"  the file ({size_text(size)}) {fits} into the {size_text(free)} that are free here: {after}",
    ]


def _of_files(count: int, found: Examination) -> str:
    if len(found.files) == 1:
        return ""
    return " (1 file)" if count == 1 else f" ({count:,} files)"
