"""Conformal sets of classes and intervals of numbers: from predicted columns to sets that hold the truth as often as
asked. N samples, C classes, G groups. No torch here.

::

    model/conformal.json   thresholds of each label, and the SHA-256 of the weights that they belong to

`hpctrain validate` writes the file from held-out samples; a loaded model has it in its card.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import CheckpointError
from hpctrain.families.labels.section import CIRCULAR, CLASS, DENSITY
from hpctrain.samples.hashing import hash_ids, unit_interval

FILE = "conformal.json"
FORMAT = "hpctrain-conformal"
VERSION = 1
LAC, APS = "lac", "aps"

_SALT = "hpctrain/aps"
_LN10 = math.log(10.0)
_TINY = 1e-12


def class_scores(probability: np.ndarray, method: str, target_id: np.ndarray) -> np.ndarray:
    """Return how unusual each class would be as the truth, (N, C), float64; small is usual.

    Parameters
    ----------
    probability : ndarray, shape (N, C)
    method : str
        ``lac``: one minus the probability of the class, which gives the smallest sets. ``aps``: the probability of all
        classes that are more probable, and a random part of its own; sets then adapt more to hard samples.
    target_id : ndarray, shape (N,), int64
        The random part is a function of the object.

    References
    ----------
    .. [1] Sadinle, Lei & Wasserman 2019, JASA 114, 223, arXiv:1609.00451: LAC.
    .. [2] Romano, Sesia & Candès 2020, NeurIPS, arXiv:2006.02544: APS.
    """
    probability = np.asarray(probability, dtype=np.float64)
    if method == LAC:
        return 1 - probability
    order = np.argsort(-probability, axis=1, kind="stable")
    ordered = np.take_along_axis(probability, order, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    part = unit_interval(hash_ids(target_id, _SALT))[:, None]
    found = np.empty_like(probability)
    np.put_along_axis(found, order, before + part * ordered, axis=1)
    return found


@dataclass(frozen=True)
class Base:
    """The interval that the model itself predicts, on the scale on which it is widened; (N,) each.

    Parameters
    ----------
    low, high : ndarray, shape (N,), float64
        One standard deviation to each side of a value; the central 68.3 % of a density.
    scale : str
        ``linear``, ``log10`` or ``log1p``: what the values of the label become.
    period : float, optional
        Of an angle.
    limits : tuple of float, optional
        Range of the label, on this scale.
    """

    low: np.ndarray
    high: np.ndarray
    scale: str = "linear"
    period: float | None = None
    limits: tuple[float, float] | None = None

    @property
    def half(self) -> np.ndarray:
        """Half of the width, (N,); above 0."""
        return np.maximum(0.5 * (self.high - self.low), _TINY)

    def scores(self, true: np.ndarray) -> np.ndarray:
        """Return how far outside of the interval the truth is, in units of half of its width, (N,); -1 in the middle.

        The interval of a sample is the one of its own predicted error: conformalised quantile regression, with the
        width as its unit; for a value the residual divided by the predicted error, less 1.

        References
        ----------
        .. [1] Romano, Patterson & Candès 2019, NeurIPS, arXiv:1905.03222.
        .. [2] Lei et al. 2018, JASA 113, 1094, arXiv:1604.04173, sect. 5.2: normalised residuals.
        """
        t = _to_scale(np.asarray(true, dtype=np.float64), self.scale)
        if self.period is not None:
            apart = t - 0.5 * (self.low + self.high)
            apart = np.abs(np.remainder(apart + 0.5 * self.period, self.period) - 0.5 * self.period)
            return apart / self.half - 1
        return np.maximum(self.low - t, t - self.high) / self.half

    def widened(self, threshold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper end for thresholds (N,) of the score, in the unit of the label.

        Infinite thresholds give the whole range. An angle runs from the lower to the upper end, perhaps through 0.
        """
        wide = np.where(np.isfinite(threshold), threshold, 0.0) * self.half
        low, high = self.low - wide, self.high + wide
        whole = ~np.isfinite(threshold)
        if self.period is not None:
            whole |= high - low >= self.period
            low, high = np.remainder(low, self.period), np.remainder(high, self.period)
            return np.where(whole, 0.0, low), np.where(whole, self.period, high)
        low, high = np.where(whole, -np.inf, low), np.where(whole, np.inf, high)
        if self.limits is not None:
            low, high = np.clip(low, *self.limits), np.clip(high, *self.limits)
        return _from_scale(low, self.scale), _from_scale(high, self.scale)


def _to_scale(values: np.ndarray, scale: str) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"log10": np.log10, "log1p": np.log1p}.get(scale, np.asarray)(values)


def _from_scale(values: np.ndarray, scale: str) -> np.ndarray:
    if scale == "log10":
        return np.power(10.0, values)
    return np.expm1(values) if scale == "log1p" else values


def base_of(label: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> Base:
    """Return the interval that a model predicts for a label that is a number.

    Parameters
    ----------
    label : mapping
        Its entry in the model's card.
    columns : mapping of str to ndarray, shape (N,)
        Predicted columns: ``<title>_PRED`` and ``_ERR``, or for a density ``_LOW`` and ``_HIGH``.
    """
    title = title_of(label)
    if label["kind"] == DENSITY:
        scale = "log1p" if label.get("spacing") == "log1p" else "linear"
        low, high = (_to_scale(_float(columns[f"{title}_{end}"]), scale) for end in ("LOW", "HIGH"))
        limits = label.get("range")
        ends = None if limits is None else tuple(_to_scale(np.array(limits, dtype=np.float64), scale).tolist())
        return Base(low, high, scale, None, ends)
    predicted, error = (_float(columns[f"{title}_{name}"]) for name in ("PRED", "ERR"))
    if label.get("log10"):
        with np.errstate(divide="ignore", invalid="ignore"):
            predicted, error = np.log10(predicted), error / (predicted * _LN10)
        return Base(predicted - error, predicted + error, "log10")
    period = label.get("period") if label["kind"] == CIRCULAR else None
    return Base(predicted - error, predicted + error, "linear", period)


def title_of(label: Mapping[str, Any]) -> str:
    """Return the first part of the names of a label's columns."""
    return label.get("name") or str(label["column"]).rsplit("/", 1)[-1]


def threshold(scores: np.ndarray, miscoverage: float) -> float:
    """Return the score that a new sample exceeds with at most this probability.

    It is the k-th smallest of n scores, k = ceil((n + 1) (1 - miscoverage)); infinite if k is above n. For independent
    samples the truth is covered with a probability between 1 - miscoverage and that plus 1 / (n + 1).

    Parameters
    ----------
    scores : ndarray, shape (n,)
        Of the true answers of samples that the model has not learned from.
    miscoverage : float

    References
    ----------
    .. [1] Vovk, Gammerman & Shafer 2005, Algorithmic Learning in a Random World.
    .. [2] Angelopoulos & Bates 2023, Found. Trends Mach. Learn. 16, 494, arXiv:2107.07511.
    """
    place = math.ceil((len(scores) + 1) * (1 - miscoverage) - 1e-9)
    return math.inf if place > len(scores) else float(np.partition(scores, place - 1)[place - 1])


def group_of(values: np.ndarray, edges: np.ndarray | list[float]) -> np.ndarray:
    """Return the bin of each value (N,) between inner edges (G - 1,), int64; -1 for a value that is not finite."""
    values = _float(values)
    return np.where(np.isfinite(values), np.searchsorted(edges, values, side="right"), -1)


def taken(thresholds: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the thresholds (G, ...) of the group of each sample (N,), as (N, ...); the largest for group -1."""
    extended = np.concatenate([thresholds, thresholds.max(axis=0, keepdims=True)])
    return extended[np.where(group < 0, len(thresholds), group)]


def conformal_columns(
    stored: Mapping[str, Any],
    labels: list[Mapping[str, Any]],
    columns: Mapping[str, np.ndarray],
    read: Callable[[str], np.ndarray],
) -> dict[str, np.ndarray]:
    """Return the sets and intervals of samples.

    Parameters
    ----------
    stored : mapping
        Contents of ``conformal.json``.
    labels : list of mapping
        ``section.labels`` of the model's card.
    columns : mapping of str to ndarray, shape (N, ...)
        Predicted columns.
    read : callable
        Returns a column (N,) of the files, or ``target_id``, by its name.

    Returns
    -------
    dict of str to ndarray
        ``<title>_SET`` (N, C), uint8, 1 for each class of the set; ``<title>_INTERVAL_LOW`` and ``_HIGH`` (N,). A
        sample without prediction has the empty set, or NaN.
    """
    found: dict[str, np.ndarray] = {}
    for label in labels:
        title = title_of(label)
        entry = stored["labels"].get(title)
        if entry is None:
            continue
        limits = np.array([[np.inf if each is None else each for each in line] for line in entry["thresholds"]])
        size = len(columns[f"{title}_PRED"])
        groups = entry.get("groups")
        group = np.zeros(size, dtype=np.int64) if groups is None else group_of(read(groups["column"]), groups["edges"])
        if label["kind"] == CLASS:
            scores = class_scores(columns[f"{title}_PROB"], entry["method"], read("target_id"))
            found[f"{title}_SET"] = (scores <= taken(limits, group)).astype(np.uint8)  # false where NaN
        else:
            base = base_of(label, columns)
            low, high = base.widened(taken(limits[:, 0], group))
            missing = ~np.isfinite(base.low + base.high)
            for name, end in (("LOW", low), ("HIGH", high)):
                found[f"{title}_INTERVAL_{name}"] = np.where(missing, np.nan, end).astype(np.float32)
    return found


def read_conformal(folder: Path, digest: Callable[[], str]) -> dict[str, Any] | None:
    """Return the contents of ``conformal.json`` in the folder of a model; None if there is none.

    Parameters
    ----------
    folder : Path
    digest : callable
        Returns the SHA-256 of the weights.

    Raises
    ------
    CheckpointError
        The file is damaged, of another version, or belongs to other weights.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    again = "write it again with 'hpctrain validate', or remove it"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); {again}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("labels"), dict):
        raise CheckpointError(f"{path}: is damaged; {again}")
    if found.get("version") != VERSION:
        raise CheckpointError(f"{path}: format version {found.get('version')!r}, this hpctrain reads {VERSION}")
    if found.get("model_sha256") != digest():
        raise CheckpointError(f"{path}: belongs to other weights than those beside it; {again}")
    return found


def _float(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)
