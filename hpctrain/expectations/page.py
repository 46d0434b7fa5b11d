"""A validation of data as one self-contained page: the checks, old and new distributions, old and new sky."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from hpctrain.drawing.described.draw import draw_figures
from hpctrain.drawing.described.figure import figure, read_figure
from hpctrain.drawing.scale import grouped
from hpctrain.drawing.table import table
from hpctrain.expectations.check import Check
from hpctrain.expectations.compare import old_of, shares_of
from hpctrain.expectations.section import ColumnSection
from hpctrain.expectations.validate import Validated
from hpctrain.files import creation_time
from hpctrain.report.document import Head, moment, render_document

NUM_BINS = 40
MOST_FIGURES = 60
_NEW, _OLD = "new", "old"


def page_of(found: Validated) -> str:
    """Return the page as HTML."""
    failed, number = found.failed, len(found.checks)
    with_what = f", compared with {found.compared_with}" if found.compared_with else ""
    if failed:
        sentence = f"{len(failed):,} of {number:,} checks failed: the data are not as expected."
    else:
        sentence = f"All {number:,} checks passed: the data are as expected."
    files = [str(source.path) for source in found.looked.sources]
    head = Head(
        kind="Data validation",
        name=escape(files[0] if len(files) == 1 else f"{len(files):,} files"),
        place=escape(f"{grouped(found.looked.num_rows)} objects against {found.against}{with_what}"),
        sentence=escape(sentence),
        state=' <span class="state failed">not as expected</span>' if failed else ' <span class="state">good</span>',
    )
    sections = [
        ("failed", "What failed", _checks(failed, files)),
        ("sky", "Coverage of the sky", draw_figures([read_figure(each) for each in _sky(found)])),
        ("columns", "Old and new", draw_figures([read_figure(each) for each in _columns(found)])),
        ("files", "Files", _files(found, files)),
        ("all", "All checks", _checks([check for check in found.checks if not check.failed], files)),
    ]
    chance = f"data without any fault fail with a chance of at most {100 * found.expected.false_alarms:g} %"
    return render_document(head, sections, f"{moment(creation_time())} · {chance}")


def _checks(checks: list[Check], files: list[str]) -> str:
    heads = ["column", "what", "found", "allowed", "rows", "where"]
    rows = []
    for check in checks:
        number = grouped(check.places.number) if check.places is not None and check.places.number else ""
        texts = (check.column or "–", check.what, check.found, check.allowed)
        rows.append([*(escape(text) for text in texts), number, _where(check, files)])
    return table(heads, rows) if rows else ""


def _where(check: Check, files: list[str]) -> str:
    places = check.places
    if places is None or not places.number:
        return ""
    parts = []
    if len(files) > 1:
        parts.append(", ".join(f"{files[file]} ({number:,})" for file, number in places.files.most_common(3)))
    if places.first:
        parts.append("rows " + ", ".join(f"{row:,}{f' ({text})' if text else ''}" for _, row, text in places.first))
    return escape("; ".join(parts))


def _files(found: Validated, files: list[str]) -> str:
    rows = [[escape(name), grouped(rows)] for name, rows in zip(files, found.looked.rows_of_files, strict=True)]
    return table(["file", "objects"], rows)


def _sky(found: Validated) -> list[dict[str, Any]]:
    """Return maps of the objects in each cell: old data and new ones."""
    sky = found.expected.sky
    if sky is None or not found.looked.sky.any():
        return []
    old = found.reference.cells(sky.nside) if found.reference is not None else sky.in_cells
    new = found.looked.cells(sky.nside)
    shown = np.flatnonzero((old > 0) | (new > 0))
    corners = _corners(shown, sky.nside)
    figures = []
    for key, title, counts in (("old", "Old data", old), ("new", "New data", new)):
        cells = [
            {"corners": corner, "value": float(counts[cell]), "num": int(counts[cell])}
            for cell, corner in zip(shown, corners, strict=True)
        ]
        data = {"cells": cells, "label": "objects in a cell"}
        caption = f"{grouped(int(counts.sum()))} objects in {np.count_nonzero(counts):,} cells."
        figures.append(figure(f"sky.{key}", title, "sky", data, caption))
    return figures


def _corners(cells: np.ndarray, nside: int) -> list[list[tuple[float, float]]]:
    from astropy import units
    from astropy_healpix import boundaries_lonlat

    lon, lat = boundaries_lonlat(cells, 1, nside, order="nested")
    lon, lat = lon.to_value(units.deg), lat.to_value(units.deg)
    return [list(zip(each.tolist(), other.tolist(), strict=True)) for each, other in zip(lon, lat, strict=True)]


def _columns(found: Validated) -> list[dict[str, Any]]:
    """Return old and new distributions of columns, those with failed checks first."""
    failed = [check.column for check in found.failed]
    names = sorted(found.expected.columns, key=lambda name: failed.index(name) if name in failed else len(failed))
    figures: list[dict[str, Any]] = []
    for name in names:
        column, tally = found.expected.columns[name], found.looked.tallies.get(name)
        if tally is None or not column.drift or len(figures) >= MOST_FIGURES:
            continue
        drawn = _bars(found, name, column) if column.classes is not None else _histogram(found, name, column)
        if drawn is not None:
            figures.append(drawn)
    return figures


def _caption(found: Validated, name: str) -> str:
    texts = [
        f"{check.what}: {check.found} (allowed: {check.allowed})" for check in found.failed if check.column == name
    ]
    return f"Failed: {'; '.join(texts)}." if texts else ""


def _histogram(found: Validated, name: str, column: ColumnSection) -> dict[str, Any] | None:
    """Return shares of objects in bins; of old data of which only quantiles are known, those between the quantiles."""
    new = found.looked.sample[name]
    new = new[np.isfinite(new)]
    old = old_of(name, column, found.expected, found.reference)
    if old is None or len(new) < 2:
        return None
    ends = (
        np.quantile(new, (0.002, 0.998)).tolist()
        + np.interp((0.02, 0.98), np.linspace(0, 1, len(old.quantiles)), old.quantiles).tolist()
    )
    low, high = min(ends), max(ends)
    if not high > low:
        return None
    edges = np.linspace(low, high, NUM_BINS + 1)
    shares = np.histogram(new, edges)[0] / len(new)
    if old.values is not None:
        before = np.histogram(old.values, edges)[0] / len(old.values)
    else:
        before = np.diff(np.interp(edges, *_steps(old.quantiles)))
    unit = f" [{column.unit}]" if column.unit else ""
    data = {
        "edges": edges,
        "series": [{"values": before, "name": _OLD}, {"values": shares, "name": _NEW}],
        "marks": [{"value": end, "name": "range"} for end in column.range or () if low <= end <= high],
    }
    axes = {"x": {"label": f"{name}{unit}"}, "y": {"label": "share of objects"}}
    return figure(f"column.{name}"[:200], name, "histogram", data, _caption(found, name), axes=axes)


def _steps(quantiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct values and the cumulative shares up to them."""
    shares = np.linspace(0, 1, len(quantiles))
    values = np.unique(quantiles)
    return values, shares[np.searchsorted(quantiles, values, side="right") - 1]


def _bars(found: Validated, name: str, column: ColumnSection) -> dict[str, Any] | None:
    counts = found.looked.tallies[name].classes
    if not counts:
        return None
    total = sum(counts.values())
    new = {text.decode("utf-8", "replace") or "others": number / total for text, number in counts.items()}
    old, _ = shares_of(name, column, found.expected, found.reference)
    names = sorted({*new, *old} - {""}, key=lambda each: (-old.get(each, 0.0), each))
    data = {
        "names": names,
        "series": [
            {"values": [old.get(each, 0.0) for each in names], "name": _OLD},
            {"values": [new.get(each, 0.0) for each in names], "name": _NEW},
        ],
    }
    axes = {"x": {"label": "share of objects"}}
    return figure(f"column.{name}"[:200], name, "bars", data, _caption(found, name), axes=axes)
