"""How well a class of two is found among many others: recall at few false alarms. n images."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.drawing.scale import grouped
from hpctrain.drawing.svg import WIDE, Axes, drawing, on_both
from hpctrain.families.result_files import Arrays, read_hdf5
from hpctrain.families.shown import Panel

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = "detection.npz"
FALSE_POSITIVES = (0, 10)
"""Numbers of false positives at which the report gives the recall."""

MOST_POINTS = 1000
"""Largest number of points of a curve in the file."""


def recall_at(score: np.ndarray, is_positive: np.ndarray, false_positives: int) -> float:
    """Return the share of positives whose score is above that of all but some of the negatives.

    Parameters
    ----------
    score : ndarray, shape (n,)
        Larger for what looks more like a positive.
    is_positive : ndarray, shape (n,), bool
    false_positives : int
        Number of negatives that may have a score above the limit.

    Returns
    -------
    float
        NaN without positives; 1 if there are no more negatives than that.

    References
    ----------
    .. [1] Metcalf et al. 2019, A&A 625, A119, arXiv:1802.03609: TPR0 and TPR10 of the strong lens finding challenge.
    """
    positives, negatives = score[is_positive], np.sort(score[~is_positive])[::-1]
    if not len(positives):
        return float("nan")
    if false_positives >= len(negatives):
        return 1.0
    return float(np.mean(positives > negatives[false_positives]))


def area_under_roc(score: np.ndarray, is_positive: np.ndarray) -> float:
    """Return the probability that a positive has a higher score than a negative; ties count half."""
    from scipy.stats import rankdata

    num = int(is_positive.sum())
    others = len(score) - num
    if not num or not others:
        return float("nan")
    return float((rankdata(score)[is_positive].sum() - num * (num + 1) / 2) / (num * others))


def recall_curve(score: np.ndarray, is_positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of false positives (k,), at most `MOST_POINTS` of them, and the recall at each."""
    negatives, positives = np.sort(score[~is_positive])[::-1], np.sort(score[is_positive])
    most = max(len(negatives), 1)
    numbers = np.unique(
        np.concatenate([np.arange(min(most, 100)), np.geomspace(1, most, MOST_POINTS - 100).astype(int)])
    )
    numbers = numbers[numbers < len(negatives)]
    below = np.searchsorted(positives, negatives[numbers], side="right")
    return numbers, (len(positives) - below) / max(len(positives), 1)


def write_detection(model: Any, folder: Path) -> None:
    """Write ``detection.npz`` for the labels of two classes, of which the last one is searched for.

    Parameters
    ----------
    model : ImageCNN
    folder : Path
        With ``predictions.h5``.
    """
    from hpctrain.families.labels.class_head import ClassHead
    from hpctrain.families.predictions_panel import FILE as PREDICTIONS
    from hpctrain.files import NewFile

    columns, found = read_hdf5(folder / PREDICTIONS), {}
    for head in model.heads:
        if not isinstance(head, ClassHead) or head.num_classes != 2 or f"{head.title}_TRUE" not in columns:
            continue
        true, probability = columns[f"{head.title}_TRUE"], columns[f"{head.title}_PROB"][:, 1]
        known = (true != b"") & np.isfinite(probability)
        name = head.label.classes[1]
        is_positive = true[known] == name.encode()
        if is_positive.any() and not is_positive.all():
            numbers, recall = recall_curve(probability[known], is_positive)
            counts = np.array([is_positive.sum(), (~is_positive).sum()])
            at = np.array([recall_at(probability[known], is_positive, number) for number in FALSE_POSITIVES])
            area = np.array(area_under_roc(probability[known], is_positive))
            parts = {"name": np.array(name), "counts": counts, "at": at, "area": area}
            parts |= {"false_positives": numbers, "recall": recall}
            found |= {f"{head.title}/{key}": value for key, value in parts.items()}
    if found:
        with NewFile(folder / FILE, durable=False, replace_folders=True) as new:
            np.savez(new.stream, **found)


def _titles(found: Arrays) -> Iterator[str]:
    for key in found:
        if key.endswith("/name"):
            yield key.removesuffix("/name")


def detection_figures(results: Mapping[str, Arrays]) -> str:
    """Return the scores of each label of two classes, and recall against false positives, as HTML."""
    found, parts = results[FILE], []
    for title in _titles(found):
        name, (positives, negatives) = str(found[f"{title}/name"]), found[f"{title}/counts"].tolist()
        told = ", ".join(
            f"{100 * recall:.1f} % without a false positive"
            if not number
            else f"{100 * recall:.1f} % at {number} of them"
            for number, recall in zip(FALSE_POSITIVES, found[f"{title}/at"].tolist(), strict=True)
        )
        caption = (
            f"<b>{escape(title)} = {escape(name)}</b> found: {told}; area under the ROC curve "
            f"{float(found[f'{title}/area']):.4f}; {grouped(positives)} held-out samples are of this class, "
            f"{grouped(negatives)} are not"
        )
        figure = _curve(title, found[f"{title}/false_positives"], found[f"{title}/recall"])
        parts.append(f"<figure><figcaption>{caption}</figcaption>{figure}</figure>")
    return "".join(parts)


def _curve(title: str, numbers: np.ndarray, recall: np.ndarray) -> str:
    if not len(numbers):
        return ""
    last = max(float(numbers[-1]), 1.0)

    def draw(width: int) -> str:
        axes = Axes(62, 30, width - 82, 300, (0.0, np.log10(1 + last)), (0.0, 1.03))
        axes.add_grid("log10(1 + false positives)", "share found", width // 80, 6)
        axes.line(np.log10(1 + numbers.astype(np.float64)), recall, "c1")
        return drawing(width, 382, [axes], f"Share of {escape(title)} that is found, by the number of false positives")

    return on_both(WIDE, draw)


DETECTION = Panel("detection", "Found at few false alarms", (FILE,), detection_figures)
