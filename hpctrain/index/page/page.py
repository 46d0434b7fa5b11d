"""Draw the page of all runs: one self-contained HTML file, whose table needs no script."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hpctrain.drawing.scale import DASH, grouped
from hpctrain.drawing.table import table
from hpctrain.index.page.gather import REPORT, Overview, ShownGroup, ShownRun
from hpctrain.index.page.keys import Keys
from hpctrain.index.page.sparkline import MOST_CURVES, sparkline
from hpctrain.index.units import FOLD, STAGE, TRIAL
from hpctrain.report.document import Head, moment, render_document, write_document
from hpctrain.report.text import cut
from hpctrain.states import FAILED, FINISHED, LOST, RUNNING
from hpctrain.terminal import printable
from hpctrain.words import format_short_duration

HEADS = (
    ("Run", "text"), ("State", "text"), ("Family", "text"), ("Submitted", "text"), ("Time", "number"),
    ("Steps", "number"), ("Best", "number"), ("Loss", "number"), ("GPU hours", "number"), ("Made from", "text"),
    ("Advice", "text"),
)  # fmt: skip
"""Columns of the table, and how their cells are sorted."""
_LONGEST_NOTE = 160
_FEW_HOURS = 0.01


def write_page(found: Overview, folder: Path, path: Path, now: float) -> Path:
    """Write the page, whole or not at all; return its absolute path.

    Parameters
    ----------
    found : Overview
    folder : Path
        The folder of runs.
    path : Path
        File to write; links are relative to its folder.
    now : float
        Seconds since 1970.

    Raises
    ------
    ProfileError
        The file cannot be written.
    """
    path = path.expanduser().absolute()
    return write_document(path, render_page(found, folder, path.parent, now), mode=found.mode)


def render_page(found: Overview, folder: Path, beside: Path, now: float) -> str:
    """Return the page as HTML; links are relative to the folder `beside`."""
    head = Head(
        kind="Runs",
        name=escape(printable(folder.name or str(folder))),
        place=escape(printable(str(folder))),
        sentence=escape(_sentence(found)),
    )
    sections = [
        ("all", "All runs", _runs(found, str(beside))),
        ("compare", "Comparison", _COMPARISON if found.runs else ""),
        ("studies", "Studies", _groups(found.studies, "trials", "hpctrain search report", str(beside))),
        ("pipelines", "Pipelines", _groups(found.pipelines, "stages", "hpctrain pipeline report", str(beside))),
    ]
    own = {name: files(__package__).joinpath(f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    footer = f"{moment(now)} · {printable(str(folder))}"
    return render_document(head, sections, footer, style=own["css"], script=own["js"])


_COMPARISON = (
    '<p class="lead">Mark runs in the table to lay their losses over each other, and to see which keys of their '
    'profiles differ.</p><div id="chosen"></div>'
)


def _sentence(found: Overview) -> str:
    if not found.num_runs:
        return "There are no runs yet."
    count = Counter(run.state for run in found.runs)
    first = [state for state in (FINISHED, RUNNING, FAILED, LOST) if count[state]]
    rest = [state for state in sorted(count) if state not in first]
    states = ", ".join(f"{grouped(count[state])} {state}" for state in [*first, *rest])
    hours = sum(run.row.gpu_hours or 0.0 for run in found.runs)
    less = f"The newest {grouped(len(found.runs))} of {grouped(found.num_runs)}" if _is_cut(found) else ""
    number = less or f"{grouped(found.num_runs)}"
    runs = "run" if found.num_runs == 1 else "runs"
    return f"{number} {runs}: {states}. They took {grouped(hours, 1 if hours < 100 else 0)} hours of GPUs or ranks."


def _is_cut(found: Overview) -> bool:
    return len(found.runs) < found.num_runs


def _runs(found: Overview, beside: str) -> str:
    if not found.runs:
        return '<p class="empty">hpc-submit and hpctrain local start one.</p>'
    heads = "".join(f'<th scope="col" data-sort="{kind}">{name}</th>' for name, kind in HEADS)
    rows = "\n".join(_row(run, beside) for run in found.runs)
    both = len(found.runs) <= MOST_CURVES
    curves = "Blue is the loss of training" + (", orange that of the evaluations." if both else ".")
    cut_note = "" if not _is_cut(found) else " Older runs are left out; <code>--last</code> says how many are shown."
    return (
        f'<div class="searched"></div><table class="all" id="runs-table"><thead><tr>{heads}</tr></thead>'
        f'<tbody>\n{rows}\n</tbody></table><p class="note">{curves} States are as of the writing of this page, '
        "according to the disk alone. GPU hours are those of ranks where there is no GPU."
        f"{cut_note}</p>{_data(found.keys)}"
    )


def _row(run: ShownRun, beside: str) -> str:
    """Return a row; its cells have no end tags, which makes the page smaller."""
    row = run.row
    cells = [
        _name(run, beside),
        f'<span class="state {escape(run.state.replace(" ", "-"))}">{escape(run.state)}</span>',
        escape(printable(row.family or "")),
        "" if row.submitted_at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(row.submitted_at)),
    ]
    seconds, hours = _seconds(run), row.gpu_hours or 0.0
    drawn = sparkline(run.train, run.evaluation)
    goal = f"<small>of {row.total_steps}</small>" if row.total_steps not in (None, row.step) else ""
    rest = [
        f"<td data-v={seconds:.0f}>{format_short_duration(seconds)}" if seconds is not None else "<td>",
        f"<td>{row.step}{goal}" if row.step or goal else "<td>",
        "<td>" if row.best is None else f"<td>{row.best:.4g}<small>{escape(printable(row.objective or ''))}</small>",
        f"<td>{'' if row.loss is None else f'{row.loss:.4g}'}{drawn}",
        f"<td>{hours:.3g}" if hours >= _FEW_HOURS or not hours else f"<td data-v={hours:.2g}>&lt; {_FEW_HOURS}",
        f"<td>{_made_from(run, beside)}",
        f"<td>{_advice(row.advice)}",
    ]
    return "<tr>" + "".join([*(f"<td>{cell}" for cell in cells), *rest]) + "</tr>"


def _name(run: ShownRun, beside: str) -> str:
    row = run.row
    name = escape(printable(row.name or row.run_id))
    number = f"{row.kind} {Path(row.path).name}" if row.kind in (TRIAL, FOLD, STAGE) else row.run_id
    below = escape(printable(number))
    if run.has_report:
        name = f'<a href="{_link(os.path.join(row.path, REPORT), beside)}">{name}</a>'
    else:
        name = f"<span>{name}</span>"
        below += " · no report"
    note = cut(row.description, _LONGEST_NOTE) if row.description else ""
    return f"{name}<small>{below}</small>" + (f"<small>{escape(printable(note))}</small>" if note else "")


def _made_from(run: ShownRun, beside: str) -> str:
    row = run.row
    for path in (row.study, row.pipeline, row.parent):
        if path:
            page = os.path.join(path, REPORT)
            address = _link(page, beside) if os.path.exists(page) else f"{_link(path, beside)}/"
            place = Path(path)
            name, number = (escape(printable(text)) for text in (place.parent.name, place.name))
            return f'<a href="{address}">{name}</a><small>{number}</small>'
    return ""


def _advice(rules: str | None) -> str:
    if not rules:
        return ""
    first, _, more = rules.partition(", ")
    return escape(first) + (f" <small>and {len(more.split(', '))} more</small>" if more else "")


def _seconds(run: ShownRun) -> float | None:
    row = run.row
    if row.started_at is None or row.ended_at is None:
        return None
    return max(0.0, row.ended_at - row.started_at)


def _link(path: str, beside: str) -> str:
    """Return the relative address of a file; any other character is encoded."""
    return escape(quote(os.path.relpath(path, beside), errors="replace"))


def _groups(groups: Sequence[ShownGroup], members: str, command: str, beside: str) -> str:
    if not groups:
        return ""
    rows = []
    for group in groups:
        name = escape(printable(group.name))
        if group.has_report:
            name = f'<a href="{_link(os.path.join(group.path, REPORT), beside)}">{name}</a>'
        missing = "" if group.has_report else f"none yet: <code>{escape(command)}</code>"
        began = moment(group.began) if group.began else DASH
        rows.append([f"{name}<small>{escape(printable(group.group_id))}</small>", began, str(group.count), missing])
    return table(["Name", "Began", members.capitalize(), "Page"], rows).replace('class="cards"', 'class="all cards"')


def _data(keys: Keys) -> str:
    """Return what the script compares, as JSON that cannot end its element."""
    facts = {
        "names": keys.names,
        "values": keys.values,
        "runs": [list(_flat(pairs.items())) for pairs in keys.of_runs],
        "leftOut": keys.left_out,
    }
    text = json.dumps(facts, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="keys">{text}</script>'


def _flat(pairs: Iterable[tuple[int, int]]) -> Iterator[Any]:
    for key, value in pairs:
        yield key
        yield value
