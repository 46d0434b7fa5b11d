"""The page of one time through a pipeline: its stages as a picture and as a table, in one self-contained HTML file."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hpctrain.drawing.scale import DASH
from hpctrain.drawing.svg import PHONE, WIDE, number, on_both
from hpctrain.drawing.table import table
from hpctrain.pipeline import folder as states
from hpctrain.pipeline.cost import Cost
from hpctrain.pipeline.describe import NONE, cells_of, states_of, sum_of
from hpctrain.pipeline.folder import PipelineDir
from hpctrain.report.document import Head, moment, render_document, write_document
from hpctrain.report.highlight import highlight_yaml
from hpctrain.words import format_bytes

_COLOURS = {
    states.DONE: "good",
    states.DONE_BEFORE: "raw",
    states.RUNNING: "busy",
    states.FAILED: "bad",
    states.GATE_FAILED: "bad",
}
"""Colour of each state in the style sheet; others are grey."""
_BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y = 150.0, 46.0, 44.0, 18.0
_PER_LINE, _PER_LINE_ON_PHONE, _GAP_LINES = 5, 2, 0.5
"""Boxes side by side, so that a long pipeline is not too small to read, and the gap between lines in boxes."""


def write_page(pipeline: PipelineDir, path: Path | None = None) -> Path:
    """Write the page, whole or not at all; return its absolute path.

    Raises
    ------
    ProfileError
        The file cannot be written.
    """
    path = (path or pipeline.path / "report.html").absolute()
    return write_document(path, render_page(pipeline, path.parent))


def render_page(pipeline: PipelineDir, folder: Path) -> str:
    """Return the page as HTML; links are relative to `folder`."""
    section, stages = pipeline.section(), states_of(pipeline)
    head = Head(
        kind="Pipeline",
        name=escape(section.name),
        place=escape(f"{pipeline.id} on {pipeline.read_record().get('cluster', 'unknown')}"),
        sentence=escape(_sentence(stages)),
        description=f'<p class="description">{escape(section.description)}</p>' * bool(section.description),
    )
    picture = on_both(WIDE, lambda width: graph(stages, _PER_LINE if width > PHONE else _PER_LINE_ON_PHONE))
    sections = [
        ("stages", "Stages", f"<figure>{picture}</figure>{_table(stages, folder)}"),
        ("file", "Pipeline file", f"<pre>{highlight_yaml(pipeline.file.read_text(encoding='utf-8'))}</pre>"),
    ]
    return render_document(head, sections, f"{moment(time.time())} · {pipeline.path}")


def _sentence(stages: Sequence[Mapping[str, Any]]) -> str:
    count = {state: sum(each["state"] == state for each in stages) for state in {each["state"] for each in stages}}
    parts = [f"{count[state]} {state}" for state in _COLOURS if count.get(state)]
    said = f"{len(stages)} stages: {', '.join(parts) or 'none has begun'}. They cost {_words(sum_of(stages, 'cost'))}."
    if any(each["saved"] for each in stages):
        said += f" Results that were there already saved {_words(sum_of(stages, 'saved'))}."
    return said


def _words(cost: Cost) -> str:
    took, cpu_h, gpu_h, kwh = cells_of(asdict(cost))
    parts = [took, f"{cpu_h} CPU hours", *([f"{gpu_h} GPU hours"] if cost.gpu_h else [])]
    return ", ".join([*parts, *([f"{kwh} kWh where it was measured"] if cost.kwh is not None else [])])


def graph(stages: Sequence[Mapping[str, Any]], per_line: int = _PER_LINE) -> str:
    """Return the stages as boxes with lines from those that they need, as SVG; a line has so many boxes at most."""
    column: dict[str, int] = {}
    for each in stages:
        column[each["stage"]] = 1 + max((column[need] for need in each["needs"]), default=-1)
    row: dict[str, int] = {}
    for name, at in column.items():
        row[name] = sum(column[other] == at for other in row)
    deepest = 1 + max(row.values())
    place = {
        name: (
            column[name] % per_line * (_BOX_WIDTH + _GAP_X),
            (column[name] // per_line * (deepest + _GAP_LINES) + row[name]) * (_BOX_HEIGHT + _GAP_Y),
        )
        for name in column
    }
    width = max(x for x, _ in place.values()) + _BOX_WIDTH
    height = max(y for _, y in place.values()) + _BOX_HEIGHT
    lines = [_line(place[need], place[each["stage"]]) for each in stages for need in each["needs"]]
    boxes = [_box(each, *place[each["stage"]]) for each in stages]
    return (
        f'<svg viewBox="-2 -2 {number(width + 4)} {number(height + 4)}" role="img" '
        f'style="max-width:{number(width)}px" aria-label="stages">{"".join([*lines, *boxes])}</svg>'
    )


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    if end[0] <= start[0]:  # the next line
        x, y = start[0] + _BOX_WIDTH / 2, start[1] + _BOX_HEIGHT
        to_x, to = end[0] + _BOX_WIDTH / 2, end[1]
        middle = (y + to) / 2
        return _curve([(x, y), (x, middle), (to_x, middle), (to_x, to)])
    x, y, to = start[0] + _BOX_WIDTH, start[1] + _BOX_HEIGHT / 2, end[1] + _BOX_HEIGHT / 2
    middle = (x + end[0]) / 2
    return _curve([(x, y), (middle, y), (middle, to), (end[0], to)])


def _curve(points: Sequence[tuple[float, float]]) -> str:
    first, *others = [f"{number(a)} {number(b)}" for a, b in points]
    path = f"M{first}C{' '.join(others)}"
    return f'<path class="raw" d="{path}" fill="none" stroke="var(--k)" stroke-width="1.5"/>'


def _box(stage: Mapping[str, Any], x: float, y: float) -> str:
    colour = _COLOURS.get(stage["state"], "waiting")
    detail = stage["state"] + (f", {_took(stage)}" if stage["state"] == states.DONE else "")
    return (
        f'<g class="{colour}"><rect x="{number(x)}" y="{number(y)}" width="{number(_BOX_WIDTH)}" '
        f'height="{number(_BOX_HEIGHT)}" rx="6" fill="var(--card)" stroke="var(--k)" stroke-width="2"/>'
        f'<text x="{number(x + 10)}" y="{number(y + 19)}" fill="var(--ink)" font-weight="620">'
        f"{escape(stage['stage'])}</text>"
        f'<text x="{number(x + 10)}" y="{number(y + 36)}" fill="var(--soft)" font-size="11">{escape(detail)}</text></g>'
    )


def _took(stage: Mapping[str, Any]) -> str:
    return cells_of(stage["cost"])[0]


def _table(stages: Sequence[Mapping[str, Any]], folder: Path) -> str:
    heads = [
        "Stage",
        "State",
        "Size",
        "Took",
        "CPU h",
        "GPU h",
        "kWh",
        "Attempts",
        "Saved",
        "Why it was done",
        "Results",
    ]
    rows = []
    for each in stages:
        why = "<br>".join(escape(reason) for reason in each["why"][:10]) or DASH
        size = format_bytes(each["bytes"]) if each["bytes"] else DASH
        costs = [DASH if cell == NONE else cell for cell in cells_of(each["cost"])]
        attempts = str(each["cost"]["attempts"]) if each["cost"] else DASH
        saved = _words(Cost(**each["saved"])) if each["saved"] else DASH
        state = escape(each["state"]) + (f"<br>{escape(each['detail'])}" if each["detail"] else "")
        rows.append([escape(each["stage"]), state, size, *costs, attempts, saved, why, _results(each, folder)])
    sums = [DASH if cell == NONE else cell for cell in cells_of(asdict(sum_of(stages, "cost")))]
    size = format_bytes(sum(each["bytes"] or 0 for each in stages))
    saved = _words(sum_of(stages, "saved")) if any(each["saved"] for each in stages) else DASH
    attempts = str(sum_of(stages, "cost").attempts)
    return table(heads, [*rows, ["<b>Total</b>", DASH, size, *sums, attempts, saved, DASH, DASH]])


def _results(stage: Mapping[str, Any], folder: Path) -> str:
    """Return a link to what a stage has made: the report of a run, or a folder."""
    if not stage["results"]:
        return DASH
    path = Path(stage["results"])
    report = path / "report.html"
    link = quote(os.path.relpath(report if report.exists() else path, folder))
    return f'<a href="{escape(link)}">{escape("report" if report.exists() else stage["key"])}</a>'
