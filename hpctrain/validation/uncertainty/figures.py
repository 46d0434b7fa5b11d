"""Figures of uncertainty, as plain values: reliability, coverage of credible intervals, abstention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpctrain.drawing.described.figure import figure

MOST_CURVES = 4
"""Largest number of classes with a curve in the figure of reliability: the most common ones."""

_UNIT = {"low": 0.0, "high": 1.0}
_DIAGONAL = {"x": [0.0, 1.0], "y": [0.0, 1.0], "style": "reference"}


def uncertainty_figures(title: str, found: Mapping[str, Any], confidence: float) -> list[dict[str, Any]]:
    """Return the figures of what the block ``calibration`` says of one task.

    Parameters
    ----------
    title : str
        Name of the task.
    found : mapping
        Its entry in the block.
    confidence : float
        Of the intervals.
    """
    figures = []
    if "top_label" in found:
        figures += reliability_figures(title, found, confidence)
    if "central" in found:
        figures.append(coverage_figure(title, found, confidence))
    if "abstention" in found:
        figures.append(abstention_figure(title, found["abstention"]))
    return figures


def reliability_figures(title: str, found: Mapping[str, Any], confidence: float) -> list[dict[str, Any]]:
    """Return the reliability of the most probable class, and that of each class."""
    percent = f"{100 * confidence:g} %"
    top = found["top_label"]
    ece = top["ece"]
    caption = (
        f"Points are {len(top['bins']['predicted'])} bins of equally many rows; band: {percent} intervals. Below the "
        f"dashed line the model is too sure. Calibration error {ece['value']:.4f} ({ece['low']:.4f} to "
        f"{ece['high']:.4f}); true probabilities would have {ece['by_chance']:.4f} by chance."
    )
    axes = {"x": {"label": "predicted probability", **_UNIT}, "y": {"label": "share right", **_UNIT}}
    first = figure(
        f"{title}.reliability",
        "Reliability",
        "curve",
        {"lines": [_line(top["bins"], "most probable class"), _DIAGONAL]},
        caption,
        axes=axes,
    )
    lines = [_line(each["bins"], name) for name, each in list(found["classes"].items())[:MOST_CURVES]]
    axes = {"x": {"label": "predicted probability of the class", **_UNIT}, "y": {"label": "share of it", **_UNIT}}
    caption = f"As above, for the probability of each class; band: {percent} intervals."
    second = figure(
        f"{title}.reliability_classes",
        "Reliability of each class",
        "curve",
        {"lines": [*lines, _DIAGONAL]},
        caption,
        axes=axes,
    )
    return [first, second]


def _line(bins: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"x": bins["predicted"], "y": bins["observed"], "low": bins["low"], "high": bins["high"], "name": name}


def coverage_figure(title: str, found: Mapping[str, Any], confidence: float) -> dict[str, Any]:
    """Return how many credible intervals of each level hold the truth."""
    lines = []
    for key, name in (("central", "central intervals"), ("highest_density", "highest density")):
        if key in found:
            curve = found[key]
            band = {"low": curve["low"], "high": curve["high"]}
            lines.append({"x": curve["level"], "y": curve["coverage"], **band, "name": name})
    central = found["central"]
    caption = (
        f"Share of credible intervals that hold the truth, with {100 * confidence:g} % intervals. Below the dashed "
        f"line the model is too sure. Mean distance from the line {central['error']:.4f}; true densities would have "
        f"{central['error_by_chance']:.4f} by chance."
    )
    axes = {"x": {"label": "level of the interval", **_UNIT}, "y": {"label": "share that holds the truth", **_UNIT}}
    return figure(f"{title}.coverage", "Coverage", "curve", {"lines": [*lines, _DIAGONAL]}, caption, axes=axes)


def abstention_figure(title: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the loss of the rows of which the model is surest, against their share."""
    aurc = found["aurc"]
    caption = (
        f"The model answers only where it is surest. Area below the line {aurc['value']:.4g} ({aurc['low']:.4g} to "
        f"{aurc['high']:.4g}), of which a perfect order would save {aurc['excess']:.4g}."
    )
    axes = {"x": {"label": "share of the rows that are answered", **_UNIT}, "y": {"label": found["loss"], "low": 0.0}}
    data = {"lines": [{"x": found["coverage"], "y": found["risk"]}]}
    return figure(f"{title}.abstention", "Abstention", "curve", data, caption, axes=axes)


def conformal_figures(title: str, found: Mapping[str, Any], miscoverage: float) -> list[dict[str, Any]]:
    """Return the coverage of conformal sets for each class, and of sets and intervals for each bin of each column.

    Parameters
    ----------
    title : str
        Name of the task.
    found : mapping
        Its entry in the block ``conformal``.
    miscoverage : float
    """
    methods, goal = found["methods"], [{"value": 1 - miscoverage, "name": f"{100 * (1 - miscoverage):g} %"}]
    axes = {"y": {"label": "share that holds the truth"}}
    caption = "Thresholds come from the other half of the objects."
    first = next(iter(methods.values()))
    figures = []
    if first.get("classes"):
        names = list(first["classes"])
        named = (("lac", "one threshold"), ("lac_per_class", "one per class"))
        series = [_coverages(list(methods[key]["classes"].values()), name) for key, name in named]
        data = {"names": names, "series": series, "marks": goal}
        figures.append(figure(f"{title}.conformal", "Coverage of sets", "bars", data, caption, axes=axes))
    for column, bins in first["bins"].items():
        series = [_coverages(bins, "one threshold")]
        if f"per_bin.{column}" in methods:
            series.append(_coverages(methods[f"per_bin.{column}"]["bins"][column], "one per bin"))
        data = {"names": [_range(each) for each in bins], "series": series, "marks": goal}
        axes = {**axes, "x": {"label": column}}
        figures.append(figure(f"{title}.conformal.{column}", f"Coverage by {column}", "bars", data, caption, axes=axes))
    return figures


def _coverages(entries: list[Mapping[str, Any]], name: str) -> dict[str, Any]:
    keys = {"values": "coverage", "low": "coverage_low", "high": "coverage_high", "num": "n"}
    return {"name": name, **{key: [entry[own] for entry in entries] for key, own in keys.items()}}


def _range(entry: Mapping[str, Any]) -> str:
    low, high = entry["low"], entry["high"]
    if low is None:
        return "all" if high is None else f"below {high:.4g}"
    return f"{low:.4g} and above" if high is None else f"{low:.4g} to {high:.4g}"
