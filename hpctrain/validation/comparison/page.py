"""The page of a comparison: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from hpctrain.drawing.described.draw import draw_figures
from hpctrain.drawing.described.figure import figure, read_figure
from hpctrain.drawing.scale import grouped
from hpctrain.drawing.table import table
from hpctrain.report.document import Head, moment, render_document, write_document
from hpctrain.rundir import RunDir
from hpctrain.validation.comparison.background import Row
from hpctrain.validation.comparison.curves import MOST_LINES, curve_figures
from hpctrain.validation.comparison.entrants import Entrant
from hpctrain.validation.comparison.table import (
    ARROWS,
    is_known,
    names_of,
    pair_head,
    pair_rows,
    ranking_head,
    ranking_rows,
    sample_sentence,
    value_rows,
)

_FURTHEST = 1.0
"""Relative changes with a wider interval than this would hide all others, and are not drawn."""


def write_page(found: Mapping[str, Any], entrants: Sequence[Entrant], path: Path) -> Path:
    """Write the page of a comparison, whole or not at all.

    Parameters
    ----------
    found : mapping
        What :func:`~hpctrain.validation.comparison.compare.compare` returns.
    entrants : sequence of Entrant
        The runs, whose learning curves are read.
    path : Path

    Returns
    -------
    Path
        Absolute path of the file.

    Raises
    ------
    ProfileError
        The file cannot be written.
    """
    return write_document(path, render_page(found, {each.name: each.judged.run for each in entrants}))


def render_page(found: Mapping[str, Any], runs: Mapping[str, RunDir]) -> str:
    """Return the page as HTML."""
    families = [each["family"] for each in found["runs"]]
    head = Head(
        kind="Comparison of runs",
        name=escape(" · ".join(names_of(found))),
        place=escape(", ".join(each["path"] for each in found["runs"])),
        sentence=escape(" ".join(pair["verdict"] for pair in found["pairs"][:1])),
    )
    sections = [
        ("verdicts", "Verdicts", _verdicts(found)),
        ("ranking", "Ranking", _ranking(found)),
        ("metrics", "Metrics", _metrics(found)),
        ("curves", "During training", _curves(runs, families)),
        ("profiles", "What differs in the profiles", _rows(found["profile"], found, "The profiles are the same.")),
        ("data", "Data and code", _rows([*found["data"], *found["code"]], found, "")),
    ]
    return render_document(head, sections, moment(found["made_at"]), _numbers(found), _warnings(found))


def _verdicts(found: Mapping[str, Any]) -> str:
    if len(found["pairs"]) < 2:
        return ""
    verdicts = (escape(pair["verdict"]) for pair in found["pairs"])
    return f"<ul>{''.join(f'<li>{text}</li>' for text in verdicts)}</ul>"


def _numbers(found: Mapping[str, Any]) -> str:
    drawn = {"object": "objects", "sky": "cells of the sky"}.get(found["by"], f"groups by {found['by']}")
    cards = [
        ("Runs", grouped(len(found["runs"])), f"baseline: {found['baseline']}" if found["baseline"] else "all pairs"),
        ("Held-out objects", grouped(found["num_objects"]), "that all runs held out"),
        ("Independent groups", grouped(found["num_groups"]), f"{drawn}, drawn anew {grouped(found['draws'])} times"),
        ("Tests", grouped(_num_tests(found)), "p values are corrected for their number"),
    ]
    body = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd><dd>{escape(remark)}</dd></div>"
        for label, value, remark in cards
    )
    return f'<dl class="numbers">{body}</dl>'


def _num_tests(found: Mapping[str, Any]) -> int:
    values = [v for pair in found["pairs"] for task in pair["tasks"].values() for v in task["metrics"].values()]
    return sum(is_known(each[key]) for each in values for key in ("p", "signed_rank"))


def _warnings(found: Mapping[str, Any]) -> str:
    if not found["notes"]:
        return ""
    title = "One thing to know" if len(found["notes"]) == 1 else f"{len(found['notes'])} things to know"
    listed = "".join(f"<li>{escape(text)}</li>" for text in found["notes"])
    return f'<aside class="warnings"><h2>{title}</h2><ul>{listed}</ul></aside>'


def _ranking(found: Mapping[str, Any]) -> str:
    parts = []
    for title, task in found["tasks"].items():
        heads = ranking_head(task)
        cells = [[escape(cell) for cell in row] for row in ranking_rows(found, title)]
        if len(found["runs"]) > 2:
            parts.append(f"<h3>{escape(title)}</h3>{table([head[:1].upper() + head[1:] for head in heads], cells)}")
    return "".join([*parts, draw_figures([read_figure(each) for each in _bars(found)])])


def _bars(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a figure of the deciding metric of each label, with its interval for each run."""
    figures = []
    for title, task in found["tasks"].items():
        metric = task["metrics"][task["deciding"]]
        own = [metric["runs"][name] for name in task["ranking"]]
        series = {
            key: [each[end] for each in own] for key, end in (("values", "value"), ("low", "low"), ("high", "high"))
        }
        label = metric["label"] + (f" [{metric['unit']}]" if metric["unit"] else "")
        caption = (
            f"with its interval, {ARROWS[metric['better']]}. Intervals of two runs may overlap although they differ: "
        )
        caption += "both are judged on the same objects."
        data = {"names": task["ranking"], "series": [series]}
        axes = {"x": {"label": label}}
        figures.append(figure(f"{title}.deciding", f"{title}: {metric['label']}", "bars", data, caption, axes=axes))
    return figures


def _metrics(found: Mapping[str, Any]) -> str:
    parts = [f'<p class="lead">{escape(sample_sentence(found))}</p>']
    for pair in found["pairs"]:
        for title, task in pair["tasks"].items():
            name = f"{title}: {pair['first']} and {pair['second']}"
            cells = [[escape(cell) for cell in row] for row in pair_rows(task)]
            parts.append(f"<h3>{escape(name)}</h3>{table(['Metric', *pair_head(pair, found)[1:]], cells)}")
            parts += [
                _note(text) for text in sorted({each["note"] for each in task["metrics"].values() if each["note"]})
            ]
            if drawn := _changes(pair, title, task):
                parts.append(draw_figures([read_figure(drawn)]))
    parts.append(
        _note(
            "p (Holm) is corrected for the number of tests: the deciding metrics of all pairs and labels among "
            "themselves, and all other metrics among themselves. object by object: Wilcoxon's signed rank test of what "
            "each object adds to the metric, with Cohen's d and how often the second run is better."
        )
    )
    return "".join(parts)


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _changes(pair: Mapping[str, Any], title: str, task: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a figure of the relative change of each metric; None if none has one."""
    names, series = [], {"values": [], "low": [], "high": []}  # type: ignore[var-annotated]
    for values in task["metrics"].values():
        if not is_known(values["relative"]) or not is_known(values["low"]):
            continue
        ends = [values[key] / values["first"] for key in ("value", "low", "high")]
        if max(map(abs, ends)) < _FURTHEST:
            names.append(values["label"])
            for key, end in zip(series, ends, strict=True):
                series[key].append(100 * end)
    if len(names) < 2:
        return None
    caption = f"of {pair['second']} against {pair['first']}, with intervals. At 0 nothing changes."
    data = {"names": names, "series": [series], "marks": [{"value": 0.0}]}
    axes = {"x": {"label": "change [%]"}}
    return figure(f"{title}.{pair['second']}", "Relative change", "bars", data, caption, axes=axes, wide=True)


def _curves(runs: Mapping[str, RunDir], families: Sequence[str]) -> str:
    drawn = draw_figures([read_figure(each) for each in curve_figures(runs, families)])
    if not drawn:
        return '<p class="empty">No two runs have curves of the same number.</p>'
    lead = "Training losses are smoothed. "
    if len(set(families)) > 1:
        lead += "The families differ, so the losses may be of different kinds, and a step may be different work. "
    if len(runs) > MOST_LINES:
        lead += f"The first {MOST_LINES} of {len(runs)} runs. "
    return f'<p class="lead">{escape(lead)}</p>{drawn}'


def _rows(rows: Sequence[Row], found: Mapping[str, Any], empty: str) -> str:
    if not rows:
        return f'<p class="empty">{escape(empty)}</p>' if empty else ""
    cells = [[f"<code>{escape(row[0])}</code>", *(escape(cell) for cell in row[1:])] for row in value_rows(rows)]
    return table(["", *names_of(found)], cells)
