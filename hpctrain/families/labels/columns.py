"""From columns of the files to numbers that a network learns. N samples. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.errors import DataError
from hpctrain.families.labels.balance import WEIGHT_SUFFIX, settle_balance, weights_of
from hpctrain.families.labels.section import CLASS, DENSITY, MOST_CLASSES, VALUE, LabelSection
from hpctrain.samples.labels import MISSING_CODE

if TYPE_CHECKING:
    from hpctrain.samples.protocols import Samples

ERROR_SUFFIX = ".error"
"""What is added to the name of a label for the array of its errors."""


def read_labels(labels: Sequence[LabelSection], samples: Samples) -> dict[str, np.ndarray]:
    """Return the arrays that every batch carries.

    Parameters
    ----------
    labels : sequence of LabelSection
        Settled labels: classes have names.
    samples : Samples

    Returns
    -------
    dict of str to ndarray, shape (N,)
        Under the title of each label int64 numbers of classes, -1 where there is no label; or float32 values in the
        unit of the column, NaN where there is none. Errors, in the same unit, are under ``<title>.error``,
        weights of ``balance`` under ``<title>.weight``.

    Raises
    ------
    DataError
        A column is absent, or holds something else; the message names all of them.
    """
    found: dict[str, np.ndarray] = {}
    problems = []
    for label in labels:
        try:
            if label.kind == CLASS:
                codes = codes_of(texts_of(samples.column(label.column), label), label.classes or [])
                found[label.title] = codes
                found |= _weights(label, samples, codes != MISSING_CODE)
                continue
            values = values_of(samples.column(label.column), label)
            if label.error is not None:
                error = _numbers(samples.column(label.error), label.error).astype(np.float32)
                good = np.isfinite(values) & np.isfinite(error) & (error >= 0)
                values = np.where(good, values, np.nan)
                found[f"{label.title}{ERROR_SUFFIX}"] = np.where(good, error, np.nan).astype(np.float32)
            found[label.title] = values.astype(np.float32)
            found |= _weights(label, samples, np.isfinite(values))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return found


def _weights(label: LabelSection, samples: Samples, has: np.ndarray) -> dict[str, np.ndarray]:
    """Return the weights of the objects that have a label, NaN for others; none without ``balance``."""
    if label.balance is None:
        return {}
    weights = weights_of(label.balance, samples)
    return {f"{label.title}{WEIGHT_SUFFIX}": np.where(has, weights, np.nan).astype(np.float32)}


def texts_of(column: np.ndarray, label: LabelSection) -> np.ndarray:
    """Return the class of each sample as text, shape (N,), str; empty where there is none.

    Parameters
    ----------
    column : ndarray, shape (N,)
        Texts, integers, or floats without fraction.
    label : LabelSection

    Raises
    ------
    DataError
        The numbers are no classes.
    """
    if column.dtype.kind == "O":
        texts = column.astype(str)
    else:
        if column.dtype.kind == "f" and (broken := column[np.isfinite(column) & (column != np.round(column))]).size:
            raise DataError(
                f"{label.column}: holds numbers such as {broken[0]:g}, which are no classes; use kind: value"
            )
        is_number = np.isfinite(column) & (column != MISSING_CODE)
        whole = np.where(is_number, column, 0).astype(np.int64)
        texts = np.where(is_number, whole.astype(str), "")
    return np.where(np.isin(texts, _missing_texts(label)), "", texts)


def codes_of(texts: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return the number of the class of each text, shape (N,), int64; -1 for other texts."""
    order = np.argsort(np.array(classes, dtype=str), kind="stable")
    known = np.array(classes, dtype=str)[order]
    at = np.minimum(np.searchsorted(known, texts), len(known) - 1)
    return np.where(known[at] == texts, order[at], MISSING_CODE).astype(np.int64)


def values_of(column: np.ndarray, label: LabelSection) -> np.ndarray:
    """Return the values of a label, shape (N,), float64; NaN where there is none, or none that can be learned."""
    values = _numbers(column, label.column)
    numbers = [float(value) for value in label.missing if not isinstance(value, str)]
    bad = np.isin(values, numbers)
    if label.kind == VALUE and label.log10:
        bad |= ~(values > 0)
    if label.kind == DENSITY and label.spacing == "log1p":
        bad |= ~(values > -1)
    if label.kind == DENSITY and label.range is not None:
        bad |= ~((values >= label.range[0]) & (values <= label.range[1]))
    return np.where(bad | ~np.isfinite(values), np.nan, values)


def settle_label(label: LabelSection, samples: Samples, rows: np.ndarray, start: LabelSection | None) -> LabelSection:
    """Return a label with everything that depends on the training samples.

    Parameters
    ----------
    label : LabelSection
    samples : Samples
    rows : ndarray, shape (n,), int64
        Training rows.
    start : LabelSection, optional
        The same label of the model whose weights the new model gets: classes, scale and grid are then taken from it.

    Raises
    ------
    DataError
        The column is absent, or there are too few or too many different labels to learn.
    """
    if start is not None and start.kind == label.kind:
        unset = [key for key in ("classes", "centre", "scale", "range") if getattr(label, key) is None]
        label = label.model_copy(update={key: getattr(start, key) for key in unset})
    if label.balance is not None and label.balance.weights is None:
        label = label.model_copy(update={"balance": settle_balance(label.balance, samples, rows)})
    column = samples.column(label.column)[rows]
    if label.kind == CLASS:
        return _settle_classes(label, texts_of(column, label))
    values = values_of(column, label)
    values = values[np.isfinite(values)]
    if not len(values):
        raise DataError(f"{label.column}: no training sample has a value that can be learned")
    if label.kind == VALUE:
        return _settle_scale(label, np.log10(values) if label.log10 else values)
    if label.kind == DENSITY and label.range is None:
        return label.model_copy(update={"range": _range_of(label, values)})
    return label


def _settle_classes(label: LabelSection, texts: np.ndarray) -> LabelSection:
    found, counts = np.unique(texts[texts != ""], return_counts=True)
    if label.classes is None:
        classes = [str(name) for name in found[counts >= label.min_count]]
        if not 2 <= len(classes) <= MOST_CLASSES:
            few = f"; {len(found)} before min_count" if len(found) > len(classes) else ""
            raise DataError(
                f"{label.column}: {len(classes)} classes among the training samples{few}; 2 to {MOST_CLASSES} can be "
                "learned"
            )
        label = label.model_copy(update={"classes": classes})
    assert label.classes is not None
    number = dict(zip(found.tolist(), counts.tolist(), strict=True))
    if not any(name in number for name in label.classes):
        listed = ", ".join(map(repr, found[:20].tolist())) or "no texts"
        raise DataError(f"{label.column}: has none of the classes of model.labels; it has {listed}")
    if label.class_weights == "balanced":
        counted = np.array([max(1, number.get(name, 0)) for name in label.classes], dtype=np.float64)
        weights = counted.sum() / (len(counted) * counted)
        label = label.model_copy(update={"class_weights": weights.tolist()})
    return label


def _settle_scale(label: LabelSection, values: np.ndarray) -> LabelSection:
    middle = float(np.median(values))
    scatter = 1.4826 * float(np.median(np.abs(values - middle))) or float(values.std()) or 1.0
    centre = middle if label.centre is None else label.centre
    return label.model_copy(update={"centre": centre, "scale": label.scale or scatter})


def _range_of(label: LabelSection, values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if not low < high:
        raise DataError(f"{label.column}: all training samples have the value {low:g}; there is nothing to learn")
    return low, high


def _numbers(column: np.ndarray, name: str) -> np.ndarray:
    if column.dtype.kind == "O":
        raise DataError(f"{name}: holds texts such as {column[0]!r}, not numbers; texts are learned with kind: class")
    return column.astype(np.float64)


def _missing_texts(label: LabelSection) -> list[str]:
    return ["", *(value if isinstance(value, str) else str(int(value)) for value in label.missing)]
