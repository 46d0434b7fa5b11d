"""How well classes are recognised from the first days of held-out curves. N curves, T times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.drawing.scale import grouped, significant
from hpctrain.drawing.svg import WIDE, Axes, drawing, on_both
from hpctrain.families.shown import Panel

if TYPE_CHECKING:
    from hpctrain.families.held_out import HeldOut
    from hpctrain.families.result_files import Arrays

FILE = "early.npz"

MOST_CURVES = 5000
"""Largest number of held-out curves that are cut."""

NUM_TIMES = 8
"""Times at which classes are judged where the profile names none."""

_LEFT, _RIGHT, _HEIGHT = 62, 20, 300


def times_of(early_days: Sequence[float] | None, span_days: float) -> list[float]:
    """Return the days since the first point at which classes are judged; the last is the length of a curve."""
    if early_days is not None:
        return sorted(early_days)
    return [float(f"{span_days * 2.0**-number:.3g}") for number in reversed(range(NUM_TIMES))]


def accuracy_against_days(model: Any, held_out: HeldOut, days: Sequence[float]) -> dict[str, np.ndarray]:
    """Return how many of the held-out curves are classified rightly from their first days.

    Points that come later are hidden before normalisation, so nothing of them is known.

    Parameters
    ----------
    model : LightCurveTransformer
        In evaluation mode.
    held_out : HeldOut
        Its batches carry labels.
    days : sequence of float

    Returns
    -------
    dict of ndarray
        ``days`` (T,), ``points`` (T,), the mean number of points so far, and for each label of classes
        ``<title>_right`` (T, N), 1 or 0, for the curves with that label.
    """
    import torch

    from hpctrain.families.labels.class_head import ClassHead
    from hpctrain.kinds.light_curves.transform import cut_after

    titles = [head.title for head in model.heads if isinstance(head, ClassHead)]
    if not titles or not len(days):
        return {}
    rows = held_out.rows[:MOST_CURVES]
    right: dict[str, list[list[np.ndarray]]] = {title: [[] for _ in days] for title in titles}
    points = np.zeros(len(days))
    with torch.no_grad():
        for start in range(0, len(rows), held_out.batch_size):
            raw = held_out.samples.read(rows[start : start + held_out.batch_size]).to(held_out.device)
            for at, limit in enumerate(days):
                batch = held_out.prepare(cut_after(raw, limit))
                points[at] += float(batch.exists.sum())
                found = model.predict(batch)
                for title in titles:
                    true = raw.labels[title]
                    same = (found[f"{title}_CODE"] == true)[true >= 0]
                    right[title][at].append(same.cpu().numpy().astype(np.int8))
            held_out.tick(len(held_out.rows))
    columns = {f"{title}_right": np.stack([np.concatenate(part) for part in parts]) for title, parts in right.items()}
    return {"days": np.asarray(days, float), "points": points / max(len(rows), 1), **columns}


def write_early(model: Any, held_out: HeldOut, folder: Path) -> None:
    """Write ``early.npz`` if the model learns classes from points: statistics of a whole curve know its end."""
    from hpctrain.files import NewFile
    from hpctrain.kinds.light_curves.statistics import has_statistics

    if has_statistics(model.facts.features):
        return
    found = accuracy_against_days(model, held_out, times_of(model.early_days, model.facts.span_days))
    if found:
        with NewFile(folder / FILE, durable=False, replace_folders=True) as new:
            np.savez(new.stream, **found)


def draw_early(results: Mapping[str, Arrays]) -> str:
    """Return the accuracy against the days since the first point, one figure per label, as HTML."""
    found = results[FILE]
    parts = []
    for name, right in found.items():
        title = name.removesuffix("_right")
        if title == name or right.ndim != 2 or not right.shape[1]:
            continue
        head = (
            f"<b>{escape(title)}</b> Share of {grouped(right.shape[1])} held-out curves that are classified rightly "
            "from their first days; shaded: 95 % by bootstrap. Below: mean number of points."
        )
        drawn = _figure(found["days"], right, title) + _table(found["days"], found["points"], right)
        parts.append(f"<figure><figcaption>{head}</figcaption>{drawn}</figure>")
    return "".join(parts)


def interval(right: np.ndarray, num_draws: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return the 2.5 and 97.5 % quantiles of the accuracy (T,) over bootstraps of the curves (T, N)."""
    rng = np.random.default_rng(1)
    draws = np.stack(
        [right[:, rng.integers(right.shape[1], size=right.shape[1])].mean(axis=1) for _ in range(num_draws)]
    )
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    return low, high


def _figure(days: np.ndarray, right: np.ndarray, title: str) -> str:
    low, high = interval(right)
    shown = np.maximum(days, days[days > 0].min(initial=1.0) / 2)
    limits = (float(shown.min()), float(max(shown.max(), 1.01 * shown.min())))

    def draw(width: int) -> str:
        axes = Axes(_LEFT, 30, width - _LEFT - _RIGHT, _HEIGHT, limits, (0.0, 1.0), "log")
        axes.add_grid("days since the first point", f"accuracy of {title}", width // 80, 6)
        axes.band(shown, low, high, "c1")
        axes.line(shown, right.mean(axis=1), "c1", "accuracy")
        return drawing(width, _HEIGHT + 82, [axes], f"Accuracy of {title} against days since the first point")

    return on_both(WIDE, draw)


def _table(days: np.ndarray, points: np.ndarray, right: np.ndarray) -> str:
    head = "".join(f"<th>{significant(float(day))} d</th>" for day in days)
    accuracy = "".join(f"<td>{value:.3f}</td>" for value in right.mean(axis=1).tolist())
    number = "".join(f"<td>{value:.1f}</td>" for value in points.tolist())
    return (
        f'<div style="overflow-x:auto"><table><thead><tr><th></th>{head}</tr></thead><tbody>'
        f"<tr><th>accuracy</th>{accuracy}</tr><tr><th>points</th>{number}</tr></tbody></table></div>"
    )


EARLY = Panel("early", "Early classification", (FILE,), draw_early)
"""Accuracy against the days since the first point of a curve."""
