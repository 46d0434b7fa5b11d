"""Check what was seen in new data against expectations, and against the data of the model in service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from hpctrain.expectations.check import DRIFT, ROWS, SCHEMA, WHOLE, Check, percent, share_check
from hpctrain.expectations.drift import (
    Difference,
    Old,
    class_difference,
    distance,
    lost_share,
    stability_index,
)
from hpctrain.expectations.look import Looked
from hpctrain.expectations.propose import noise_sample
from hpctrain.expectations.sample import MOST_SAMPLED
from hpctrain.expectations.section import ColumnSection, Expectations
from hpctrain.expectations.tally import MOST_SHOWN, Places, shown
from hpctrain.kinds.spectra.noise import judge_noise

_NUMBERS = ("number", "whole", "flag")
FEWEST_FOR_DRIFT = 20
"""Smallest number of values that are compared with others."""


def checks_of(looked: Looked, expected: Expectations, reference: Looked | None = None) -> list[Check]:
    """Return all checks, not yet judged.

    Parameters
    ----------
    looked : Looked
        New data, looked at with `expected`.
    expected : Expectations
    reference : Looked, optional
        Data of the model in service, looked at with `expected`; else those of `expected` are compared.
    """
    checks = [*_schema(looked, expected), *_whole(looked, expected, reference)]
    for name, column in expected.columns.items():
        if name in looked.tallies and not _is_other_type(looked, name, column):
            checks += _values(name, column, looked)
            if column.drift:
                checks += _drift(name, column, looked, expected, reference)
    return checks


def _schema(looked: Looked, expected: Expectations) -> Iterator[Check]:
    kind = looked.sources[0].kind
    if kind != expected.kind:
        yield Check("kind", "", kind, expected.kind, True, rank=SCHEMA, size=3)
    for name, column in expected.columns.items():
        lacking = Places()
        for number, source in enumerate(looked.sources):
            if name not in source.declared and name not in looked.columns_of_files[number]:
                lacking.files[number] += looked.rows_of_files[number]
                lacking.number += looked.rows_of_files[number]
        number = len(lacking.files)
        what = "the column is gone" if number == len(looked.sources) else f"the column is gone from {number} files"
        found = what if number else "is there"
        yield Check("column", name, found, "must be there", number > 0, rank=SCHEMA, size=2, places=lacking)
        yield from _declarations(name, column, looked)
        if name in looked.tallies and column.type is not None:
            found = looked.tallies[name].type
            is_other = _is_other_type(looked, name, column)
            yield Check("type", name, found, column.type, is_other, rank=SCHEMA, size=1.5)
    if expected.other_columns == "refuse":
        known = set(expected.columns)
        others = sorted({name for names in looked.columns_of_files for name in names} - known)
        found = f"also {', '.join(others[:8])}" if others else "no others"
        yield Check("other-columns", "", found, "none but those named", bool(others), rank=SCHEMA, size=0.5)


def _declarations(name: str, column: ColumnSection, looked: Looked) -> Iterator[Check]:
    """Yield whether all files say of a column what the good ones did: type, shape, unit."""
    shape = tuple(column.shape) if column.dtype is not None else None
    for what, wanted in (("dtype", column.dtype), ("unit", column.unit), ("shape", shape)):
        if wanted is None:
            continue
        others, places = Counter(), Places()
        for number, source in enumerate(looked.sources):
            declared = source.declared.get(name)
            if declared is None or declared.dtype is None:
                continue
            if (found := getattr(declared, what)) != wanted:
                others[_text(found)] += 1
                places.files[number] += looked.rows_of_files[number]
                places.number += looked.rows_of_files[number]
        found = ", ".join(others) if others else _text(wanted)
        yield Check(what, name, found, _text(wanted), bool(others), rank=SCHEMA, size=1, places=places)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(str, value)) or "one value"
    return str(value) or "no unit"


def _is_other_type(looked: Looked, name: str, column: ColumnSection) -> bool:
    tally = looked.tallies[name]
    if column.type is None or column.type == tally.type or not tally.has_values:
        return False
    declared = looked.declared(name)
    # Whether numbers of a text are whole depends on the values, and a gap makes them fractions.
    is_loose = declared is None or declared.dtype is None
    return not (is_loose and column.type in _NUMBERS and tally.type in _NUMBERS)


def _whole(looked: Looked, expected: Expectations, reference: Looked | None) -> Iterator[Check]:
    number, rows = looked.num_rows, expected.rows
    limits = f"{rows.min:,} to {rows.max:,}" if rows.max is not None else f"at least {rows.min:,}"
    is_broken = number < rows.min or (rows.max is not None and number > rows.max)
    yield Check("rows", "", f"{number:,} objects", limits, is_broken, size=1)
    if expected.ids.column in looked.tallies:
        of, repeated, found = looked.ids.found()
        places = _places(looked, found, repeated, of)
        label = "with an identifier that came before"
        yield share_check("repeated-ids", expected.ids.column, repeated, of, expected.ids.repeated, label, places)
    of, repeated, found = looked.rows.found()
    places = _places(looked, found, repeated, of)
    yield share_check("repeated-rows", "", repeated, of, expected.ids.repeated_rows, "equal to an earlier row", places)
    if reference is not None:
        of, shared, found = looked.rows.shared_with(reference.rows)
        places = _places(looked, found, shared, of)
        label = "equal to a row of the reference" + (": is it the same file?" if shared == of else "")
        yield share_check("in-reference", "", shared, of, expected.ids.in_reference, label, places)
    yield from _sky(looked, expected, reference)
    yield from _grid(looked, expected)
    if expected.errors is not None:
        yield from _noise(looked, expected)


def _places(looked: Looked, rows: np.ndarray, number: int, of: int) -> Places:
    """Return the places of rows that are counted through all files; `number` of `of` rows looked at were found."""
    ends = np.cumsum(looked.rows_of_files)
    files = np.searchsorted(ends, rows, side="right")
    places = Places(round(number * looked.num_rows / max(1, of)))
    places.files = Counter(files.tolist())
    places.first = [(*looked.place(int(row)), "") for row in rows[:MOST_SHOWN]]
    return places


def _sky(looked: Looked, expected: Expectations, reference: Looked | None) -> Iterator[Check]:
    sky = expected.sky
    if sky is None or sky.ra not in looked.tallies or sky.dec not in looked.tallies:
        return
    new, old = looked.cells(sky.nside), sky.in_cells
    outside, total = int(new[old == 0].sum()), int(new.sum())
    yield share_check("sky-outside", "", outside, total, sky.outside, "where good data had none", rank=WHOLE)
    lost = lost_share(new, reference.cells(sky.nside) if reference is not None else old)
    found = f"{percent(lost.size)} of the sky is gone"
    yield Check("sky-lost", "", found, f"at most {percent(sky.lost)}", lost.size > sky.lost, lost.p, size=lost.size)


def _grid(looked: Looked, expected: Expectations) -> Iterator[Check]:
    if expected.grid is None:
        return
    wanted = np.array(expected.grid.knots)
    wrong, places = "", Places()
    for number, source in enumerate(looked.sources):
        if source.grid is None:
            text = "no wavelength grid that all spectra share"
        elif len(source.grid) != expected.grid.pixels:
            text = f"{len(source.grid):,} pixels"
        else:
            at = np.linspace(0, len(source.grid) - 1, len(wanted)).astype(int)
            pixel = np.abs(np.gradient(source.grid))[at]
            shift = float(np.max(np.abs(source.grid[at] - wanted) / pixel))
            shift = np.inf if np.isnan(shift) else shift
            text = f"shifted by up to {shift:.3g} pixels" if shift > expected.grid.within_pixels else ""
        if text:
            wrong = wrong or text
            places.files[number] += looked.rows_of_files[number]
            places.number += looked.rows_of_files[number]
    ends = f"{expected.grid.pixels:,} pixels from {wanted[0]:,.6g} to {wanted[-1]:,.6g} AA"
    yield Check("grid", "wavelength", wrong or ends, ends, bool(wrong), rank=SCHEMA, size=1, places=places)


def _noise(looked: Looked, expected: Expectations) -> Iterator[Check]:
    sample = noise_sample(looked)
    noise = judge_noise(*sample, held_as="ivar") if sample is not None else None
    errors = expected.errors
    if noise is None or errors is None:
        return
    found = f"holds {noise.looks_like} by the noise in the flux"
    is_other = noise.looks_like != errors.held_as
    yield Check("errors", "ivar", found, f"holds {errors.held_as}", is_other, rank=SCHEMA, size=1)
    change = noise.departure_dex - errors.departure_dex
    found = f"the variance of the noise over that of ivar is 10^{change:+.2f} times what it was"
    allowed = f"10^-{errors.within_dex:g} to 10^+{errors.within_dex:g}"
    yield Check("noise", "ivar", found, allowed, abs(change) > errors.within_dex, size=min(1.0, abs(change)))


def _values(name: str, column: ColumnSection, looked: Looked) -> Iterator[Check]:
    tally = looked.tallies[name]
    of = tally.num_rows
    if column.missing is not None:
        label = "without a value"
        yield share_check("missing", name, tally.missing.number, of, column.missing, label, tally.missing)
    for each in column.sentinels:
        number = tally.sentinels[each.value]
        yield share_check("sentinel", name, number, of, each.share, f"with {shown(each.value)}")
    if column.range is not None:
        low, high = column.range
        values = sorted({text for _, _, text in tally.strange.first})
        label = f"with {' or '.join(values)}, which usually means unknown" if values else "with a number for unknown"
        yield share_check("new-sentinel", name, tally.strange.number, of, 0.0, label, tally.strange)
        label = f"outside {low:g} to {high:g}"
        if tally.low < low or tally.high > high:
            label += f" (found {min(tally.low, low):.6g} to {max(tally.high, high):.6g})"
        yield share_check("range", name, tally.outside.number, of, column.outside, label, tally.outside)
    if column.classes is not None and tally.classes is not None:
        known = of - tally.missing.number
        names = sorted({text for _, _, text in tally.other.first})
        label = f"of another class{': ' if names else ''}{', '.join(names)}"
        yield share_check("other-classes", name, tally.other.number, known, column.other_classes, label, tally.other)
        yield from _gone(name, column.classes, tally.classes, known)


def _gone(name: str, classes: dict[str, float], found: Counter[bytes], number: int) -> Iterator[Check]:
    """Yield whether each class is still there; many objects without one of a common class are no chance."""
    for label, share in classes.items():
        p = float((1 - share) ** number)
        is_gone = found[label.encode()] == 0
        text = f"no {label} among {number:,}" if is_gone else f"{label} is there"
        wanted = f"{percent(share)} in good data"
        yield Check("class-gone", name, text, wanted, is_gone, p if is_gone else 1.0, rank=ROWS, size=share)


def _drift(
    name: str, column: ColumnSection, looked: Looked, expected: Expectations, reference: Looked | None
) -> Iterator[Check]:
    allowed = expected.distance_of(name)
    if column.classes is not None:
        yield from _drift_of_classes(name, column, looked, expected, reference)
        return
    good = np.isfinite(looked.sample[name])
    new, files = looked.sample[name][good], looked.sample_files[good]
    old = old_of(name, column, expected, reference)
    if old is None or len(new) < FEWEST_FOR_DRIFT or old.number < FEWEST_FOR_DRIFT:
        return
    yield from _drift_of_files(name, new, files, old, allowed)
    found = distance(new, old)
    text = f"shares differ by {found.size:.3f}; {_moved(new, old.quantiles)}"
    yield _drift_check("drift", name, text, found, f"at most {allowed:g}", allowed)
    index = stability_index(new, old)
    if index is not None:
        limit = expected.drift.psi
        yield _drift_check("stability", name, f"PSI {index.size:.3f}", index, f"at most {limit:g}", limit)


def _drift_of_files(name: str, new: np.ndarray, files: np.ndarray, old: Old, allowed: float) -> Iterator[Check]:
    """Yield the drift of the file that differs most: among many good ones, a bad one changes the whole little."""
    numbers, counts = np.unique(files, return_counts=True)
    numbers = numbers[counts >= FEWEST_FOR_DRIFT].astype(int)
    if len(numbers) < 2:
        return
    found = [distance(new[files == number], old) for number in numbers]
    worst = min(range(len(numbers)), key=lambda place: (found[place].p, -found[place].size))
    own = new[files == numbers[worst]]
    difference = Difference(found[worst].size, min(1.0, found[worst].p * len(numbers)))
    text = f"shares of one file differ by {difference.size:.3f}; {_moved(own, old.quantiles)}"
    check = _drift_check("file-drift", name, text, difference, f"at most {allowed:g}", allowed)
    check.places = Places(len(own), Counter({int(numbers[worst]): len(own)}))
    yield check


def _drift_check(what: str, name: str, text: str, found: Difference, wanted: str, limit: float) -> Check:
    return Check(what, name, text, wanted, found.size > limit, found.p, rank=DRIFT, size=found.size)


def old_of(name: str, column: ColumnSection, expected: Expectations, reference: Looked | None) -> Old | None:
    """Return the old distribution of a column of numbers: that of the reference, or that of the good data."""
    if reference is not None and name in reference.sample:
        values = reference.sample[name]
        values = values[np.isfinite(values)]
        if len(values) >= FEWEST_FOR_DRIFT:
            return Old(values, np.quantile(values, np.linspace(0, 1, 21)), len(values))
    if not column.quantiles:
        return None
    return Old(None, np.array(column.quantiles), min(expected.objects, MOST_SAMPLED))


def shares_of(name: str, column: ColumnSection, expected: Expectations, looked: Looked | None) -> tuple[dict, int]:
    """Return the shares of classes in old data, and the number of objects from which they are."""
    tally = looked.tallies.get(name) if looked is not None else None
    if tally is None or not tally.classes:
        return dict(column.classes or {}), expected.objects
    total = sum(tally.classes.values())
    return {text.decode("utf-8", "replace"): number / total for text, number in tally.classes.items()}, total


def _drift_of_classes(
    name: str, column: ColumnSection, looked: Looked, expected: Expectations, reference: Looked | None
) -> Iterator[Check]:
    counts = looked.tallies[name].classes
    if not counts:
        return
    new = {text.decode("utf-8", "replace"): number for text, number in counts.items()}
    old, number = shares_of(name, column, expected, reference)
    found, allowed = class_difference(new, old, number), expected.distance_of(name)
    total = sum(new.values())
    worst = max(sorted({*new, *old}), key=lambda each: abs(new.get(each, 0) / total - old.get(each, 0.0)))
    label = worst or "other classes"
    was, now = percent(old.get(worst, 0.0)), percent(new.get(worst, 0) / total)
    text = f"shares differ by {found.size:.3f}; most: {label} from {was} to {now}"
    yield _drift_check("drift", name, text, found, f"at most {allowed:g}", allowed)


def _moved(new: np.ndarray, quantiles: np.ndarray) -> str:
    """Return how the median has moved, and whether a unit explains it."""
    places = np.linspace(0, 1, len(quantiles))
    low, middle, high = np.interp((0.16, 0.5, 0.84), places, quantiles)
    now = float(np.median(new))
    text = f"median {middle:.4g} → {now:.4g}"
    sigma = 0.5 * (high - low)
    if sigma > 0:
        text += f" ({(now - middle) / sigma:+.2f} sigma)"
    ratio = now / middle if middle else 0.0
    if ratio > 0 and abs(np.log10(ratio)) > 0.9 and abs(np.log10(ratio) - round(np.log10(ratio))) < 0.02:
        text += f"; 10^{round(np.log10(ratio))} times as large: another unit?"
    return text
