"""The block ``conformal`` of ``validation.json``: coverage and size of sets and intervals, by fits on the other half of
the objects, and the thresholds of all. R rows, C classes, G groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpctrain import __version__
from hpctrain.families.labels.conformal import (
    APS,
    FORMAT,
    LAC,
    VERSION,
    Base,
    base_of,
    class_scores,
    group_of,
    taken,
    threshold,
    title_of,
)
from hpctrain.validation.intervals import CONFIDENCE, wilson
from hpctrain.validation.judged import Judged
from hpctrain.validation.tasks.classes import KIND as CLASS
from hpctrain.validation.tasks.sums import share
from hpctrain.validation.tasks.task import Task
from hpctrain.validation.uncertainty.calibration import FEWEST, NUMBERS
from hpctrain.validation.uncertainty.figures import conformal_figures
from hpctrain.validation.uncertainty.halves import one_row_per_object, second_half

MISCOVERAGE = 0.1
"""Share of the truths that may be outside, where the profile does not say."""

Described = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """Scores of the answers that a task allows.

    Parameters
    ----------
    true : ndarray, shape (R,), int64
        Number of the true class; 0 for numbers.
    scores : ndarray, shape (R, C)
        How unusual each class is as the truth; for numbers (R, 1), the score of the truth.
    rows : ndarray, shape (n,), int64
        Rows with truth and prediction.
    target_id : ndarray, shape (R,), int64
    """

    true: np.ndarray
    scores: np.ndarray
    rows: np.ndarray
    target_id: np.ndarray

    @property
    def of_truth(self) -> np.ndarray:
        """Score of the truth, (R,)."""
        return self.scores[np.arange(len(self.true)), self.true]

    def thresholds(self, rows: np.ndarray, miscoverage: float, group: np.ndarray, size: int, single: bool) -> Any:
        """Return thresholds (G, C) from one row of each object among some rows, and how many each came from.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64
        miscoverage : float
        group : ndarray, shape (R,), int64
        size : int
            G.
        single : bool
            Whether each class has a threshold of its own.
        """
        rows = one_row_per_object(self.target_id, rows)
        num_classes = self.scores.shape[1]
        limits, num = np.empty((size, num_classes)), np.empty((size, num_classes), dtype=np.int64)
        for number in range(size):
            mine = rows[group[rows] == number]
            for one in range(num_classes):
                those = mine[self.true[mine] == one] if single else mine
                limits[number, one], num[number, one] = threshold(self.of_truth[those], miscoverage), len(those)
        return limits, num

    def crossed(self, miscoverage: float, group: np.ndarray, size: int, single: bool) -> np.ndarray:
        """Return the thresholds of each row from the half of the objects that it does not belong to, (R, C)."""
        found = np.full(self.scores.shape, np.nan)
        second = second_half(self.target_id)
        for fits in (second, ~second):
            limits, _ = self.thresholds(self.rows[fits[self.rows]], miscoverage, group, size, single)
            found[~fits] = taken(limits, group[~fits])
        return found


def add_conformal(judged: Judged, section: Any = None) -> Mapping[str, Any]:
    """Return the block ``conformal``.

    Parameters
    ----------
    judged : Judged
    section : optional
        Section ``validate`` of the profile. With ``uncertainty.conformal`` the block has the entry ``stored``, which
        becomes ``model/conformal.json``.
    """
    asked = getattr(section, "uncertainty", None)
    miscoverage = getattr(asked, "conformal", None) or MISCOVERAGE
    confidence = getattr(section, "confidence", CONFIDENCE)
    labels = {title_of(label): label for label in judged.card["section"].get("labels") or ()}
    bins = {each.column: edges_of(each, judged.column(each.column)) for each in getattr(section, "bins", ())}
    bins = {column: edges for column, edges in bins.items() if edges is not None}
    tasks: Described = {}
    stored: Described = {}
    for task in judged.tasks:
        label = labels.get(task.title)
        if label is None or not _can(task, judged):
            continue
        judge = _Judge(task, label, judged, miscoverage, confidence, bins)
        tasks[task.title] = judge.classes() if task.kind == CLASS else judge.numbers()
        stored[task.title] = judge.stored(asked)
    block: Described = {"miscoverage": miscoverage, "tasks": tasks}
    if getattr(asked, "conformal", None) is not None and stored:
        block["stored"] = {"format": FORMAT, "version": VERSION, "hpctrain_version": __version__,
                           "miscoverage": miscoverage, "labels": stored}  # fmt: skip
    figures = [each for title, found in tasks.items() for each in conformal_figures(title, found, miscoverage)]
    return {"conformal": block, "figures": figures} if tasks else {}


def edges_of(bins: Any, values: np.ndarray) -> list[float] | None:
    """Return the inner edges of bins of a column (R,) of numbers; None for a column of texts."""
    if values.dtype.kind not in "fiu":
        return None
    if bins.edges is not None:
        return list(bins.edges)
    shares = np.arange(1, bins.quantiles or 5) / (bins.quantiles or 5)
    values = values[np.isfinite(values)]
    return np.unique(np.quantile(values, shares)).tolist() if len(values) else None


def _can(task: Task, judged: Judged) -> bool:
    names = {CLASS: ("PROB",)}.get(task.kind, ("ERR",))
    has = all(f"{task.title}_{name}" in judged.columns for name in names)
    return has and task.kind in (CLASS, *NUMBERS) and np.count_nonzero(task.known) >= FEWEST


class _Judge:
    """One task with its sets or intervals."""

    def __init__(
        self,
        task: Task,
        label: Mapping[str, Any],
        judged: Judged,
        miscoverage: float,
        confidence: float,
        bins: Mapping[str, list[float]],
    ) -> None:
        self.task, self.label, self.judged = task, label, judged
        self.miscoverage, self.confidence = miscoverage, confidence
        self.bins = {column: (edges, group_of(judged.column(column), edges)) for column, edges in bins.items()}
        self.one_group = np.zeros(len(judged), dtype=np.int64)

    def classes(self) -> Described:
        """Return coverage and size of the sets of each method, with one threshold and with one per class."""
        found: Described = {"kind": CLASS, "methods": {}}
        for method in (LAC, APS):
            scored = self._scored_classes(method)
            for single in (False, True):
                limits = scored.crossed(self.miscoverage, self.one_group, 1, single)
                name = f"{method}_per_class" if single else method
                found["methods"][name] = self._sets(scored, limits)
        return found

    def numbers(self) -> Described:
        """Return coverage and width of the intervals, with one threshold and with one per bin of each column."""
        scored, base = self._scored_numbers()
        limits = scored.crossed(self.miscoverage, self.one_group, 1, False)[:, 0]
        found: Described = {"kind": self.task.kind, "methods": {"one": self._intervals(scored, base, limits)}}
        for column, (edges, group) in self.bins.items():
            limits = scored.crossed(self.miscoverage, group, len(edges) + 1, False)[:, 0]
            found["methods"][f"per_bin.{column}"] = self._intervals(scored, base, limits)
        return found

    def stored(self, asked: Any) -> Described:
        """Return the thresholds of all objects, as ``conformal.json`` has them."""
        method, single = getattr(asked, "sets", LAC), getattr(asked, "per_class", True)
        column = getattr(asked, "conformal_bins", None)
        edges, group = self.bins.get(column, ([], self.one_group))
        if self.task.kind == CLASS:
            scored = self._scored_classes(method)
        else:
            scored, method, single = self._scored_numbers()[0], "interval", False
        limits, num = scored.thresholds(scored.rows, self.miscoverage, group, len(edges) + 1, single)
        groups = {"column": column, "edges": edges} if column in self.bins else None
        return {
            "kind": self.label["kind"],
            "method": method,
            "per_class": single,
            "groups": groups,
            "thresholds": limits.tolist(),
            "num_objects": num.tolist(),
        }

    def _scored_classes(self, method: str) -> Scored:
        probability, true = self.task.arrays["probability"], self.task.arrays["true"]
        rows = np.flatnonzero(self.task.known & np.isfinite(probability).all(axis=1))
        scores = class_scores(probability, method, self.judged.target_id)
        return Scored(np.where(true < 0, 0, true), scores, rows, self.judged.target_id)

    def _scored_numbers(self) -> tuple[Scored, Base]:
        base = base_of(self.label, self.judged.columns)
        scores = base.scores(self.task.arrays["true"])
        rows = np.flatnonzero(self.task.known & np.isfinite(scores))
        return Scored(self.one_group, scores[:, None], rows, self.judged.target_id), base

    def _sets(self, scored: Scored, limits: np.ndarray) -> Described:
        rows = scored.rows
        chosen = (scored.scores <= limits)[rows]
        size, true = chosen.sum(axis=1), scored.true[rows]
        inside = chosen[np.arange(len(rows)), true]
        names = list(self.label.get("classes") or ())
        found = self._coverage(inside, rows)
        found["mean_size"] = float(size.mean())
        found["share_single"], found["share_empty"] = float((size == 1).mean()), float((size == 0).mean())
        found["classes"] = {
            name: {**self._coverage(inside[true == number], rows[true == number]),
                   "mean_size": float(size[true == number].mean())}
            for number, name in enumerate(names) if (true == number).any()
        }  # fmt: skip
        return {**found, "bins": self._by_bin(inside, rows)}

    def _intervals(self, scored: Scored, base: Base, limits: np.ndarray) -> Described:
        rows = scored.rows
        inside = (scored.of_truth <= limits)[rows]
        low, high = (end[rows] for end in base.widened(limits))
        width = np.remainder(high - low, base.period) if base.period is not None else high - low
        if self.task.kind == "redshift":
            width = width / (1 + self.task.arrays["predicted"][rows])
        found = self._coverage(inside, rows)
        return {**found, "median_width": float(np.median(width)), "bins": self._by_bin(inside, rows)}

    def _by_bin(self, inside: np.ndarray, rows: np.ndarray) -> Described:
        """Return the coverage of each bin of each column, whichever thresholds there are."""
        found: Described = {}
        for column, (edges, group) in self.bins.items():
            ends = [None, *edges, None]
            found[column] = [
                {"low": ends[number], "high": ends[number + 1], **self._coverage(inside[mine], rows[mine])}
                for number in range(len(edges) + 1)
                if (mine := group[rows] == number).any()
            ]
        return found

    def _coverage(self, inside: np.ndarray, rows: np.ndarray) -> Described:
        known = np.ones(len(rows), dtype=bool)
        target_id = self.judged.target_id[rows]
        low, high = wilson(share(inside, known), known.astype(float), target_id, self.confidence)
        return {
            "coverage": float(inside.mean()),
            "coverage_low": low,
            "coverage_high": high,
            "n": len(np.unique(target_id)),
        }
