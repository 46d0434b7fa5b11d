"""The block ``bins`` of ``validation.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hpctrain.validation.bias.columns import chosen_columns, side_of
from hpctrain.validation.bias.figures import bin_figures
from hpctrain.validation.bias.judge import LEVEL, Cell, ColumnBins, judge_bins, sizes_of
from hpctrain.validation.intervals import CONFIDENCE, DRAWS
from hpctrain.validation.judged import Judged

NOTES = {
    "true": "Bins of the true value: even the best possible estimate is too high at the low end and too low at the "
    "high end, because it is drawn towards what is common. Bins of the predicted value have no such effect.",
    "predicted": "Bins of the predicted value: what a user of the predictions meets.",
    "": "",
}


def add_bins(judged: Judged, section: Any = None) -> Mapping[str, Any]:
    """Return the block ``bins`` and its figures.

    Parameters
    ----------
    judged : Judged
    section : ValidateSection, optional
    """
    columns = chosen_columns(judged, section)
    if not columns:
        return {}
    draws, confidence = getattr(section, "draws", DRAWS), getattr(section, "confidence", CONFIDENCE)
    found = judge_bins(judged.tasks, judged.target_id, columns, draws, confidence)
    cells = [cell for each in found for cell in each.cells]
    block = {
        "level": LEVEL,
        "correction": "Holm",
        **sizes_of(cells),
        "flagged": [_flag_json(each, cell) for each in found for cell in each.cells if cell.is_flagged],
        "columns": [_column_json(judged, each) for each in found],
    }
    block["flagged"].sort(key=lambda entry: entry["p_adjusted"])
    return {"bins": block, "figures": bin_figures(judged, found)}


def _flag_json(each: ColumnBins, cell: Cell) -> dict[str, Any]:
    numbers = {"inside": cell.difference.inside, "outside": cell.difference.outside, "p_adjusted": cell.p_adjusted}
    return {
        "task": cell.task.title,
        "metric": cell.metric.name,
        "column": each.section.column,
        "bin": each.bins[cell.at].label,
        "num_objects": cell.score.num_objects,
        **numbers,
    }


def _column_json(judged: Judged, each: ColumnBins) -> dict[str, Any]:
    bins: list[dict[str, Any]] = []
    for at, part in enumerate(each.bins):
        tasks: dict[str, dict[str, Any]] = {}
        for cell in each.cells:
            if cell.at == at:
                tasks.setdefault(cell.task.title, {})[cell.metric.name] = _cell_json(cell)
        bins.append(
            {"label": part.label, "low": part.low, "high": part.high, "num_rows": int(part.rows.sum()), "tasks": tasks}
        )
    note = NOTES[side_of(judged, each.section.column)]
    return {"column": each.section.column, "log": bool(each.section.log), "note": note, "bins": bins}


def _cell_json(cell: Cell) -> dict[str, Any]:
    score, apart = cell.score, cell.difference
    found = {"value": score.value, "low": score.low, "high": score.high, "n": score.num_objects}
    found["judged"] = cell.is_judged
    if cell.is_judged:
        found |= {"rest": apart.outside, "p": apart.p, "p_adjusted": cell.p_adjusted, "flagged": cell.is_flagged}
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in found.items()
    }
