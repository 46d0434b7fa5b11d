"""What a calibration is worth on objects that it was not fitted to. n rows, C classes.

One half of the objects fits temperature or map, the other half judges, and then the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpctrain.families.labels.monotone import (
    FEWEST_TO_REMAP,
    apply_classes,
    apply_density,
    fit_classes,
    fit_density,
    slope_of_density,
)
from hpctrain.validation.uncertainty.coverage import central_level, coverage_error
from hpctrain.validation.uncertainty.halves import second_half
from hpctrain.validation.uncertainty.reliability import reliability

_TINY = 1e-30
LOWEST, HIGHEST = 0.05, 20.0
"""Range of temperatures, that of the fit in the model."""


def tempered(probability: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities (n, C) after a temperature, which divides their logs."""
    log = np.log(np.maximum(np.asarray(probability, dtype=np.float64), _TINY)) / temperature
    p = np.exp(log - log.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def fit_temperature(probability: np.ndarray, true: np.ndarray) -> float:
    """Return the temperature with the lowest log loss.

    Parameters
    ----------
    probability : ndarray, shape (n, C)
    true : ndarray, shape (n,), int64

    References
    ----------
    .. [1] Guo et al. 2017, On calibration of modern neural networks, ICML, arXiv:1706.04599.
    """
    from scipy.optimize import minimize_scalar

    log = np.log(np.maximum(np.asarray(probability, dtype=np.float64), _TINY))
    rows = np.arange(len(true))

    def loss(log_temperature: float) -> float:
        scaled = log * np.exp(-log_temperature)
        highest = scaled.max(axis=1, keepdims=True)
        total = np.log(np.exp(scaled - highest).sum(axis=1)) + highest[:, 0]
        return float(np.mean(total - scaled[rows, true]))

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def raw_classes(
    entry: Mapping[str, Any] | None, probability: np.ndarray, raw: np.ndarray | None
) -> tuple[np.ndarray, bool]:
    """Return the probabilities (n, C) before the calibration of the model, and whether they are known.

    Parameters
    ----------
    entry : mapping or None
        What the card says of the calibration of the label.
    probability : ndarray, shape (n, C)
        Calibrated.
    raw : ndarray, shape (n, C), or None
        Column ``PROB_RAW``, which a model with ``calibration: isotonic`` has.
    """
    if raw is not None:
        return raw, True
    if entry is None:
        return probability, False
    return tempered(probability, 1 / float(entry["factor"])), True


def compare_classes(raw: np.ndarray, is_raw: bool, true: np.ndarray, target_id: np.ndarray) -> dict[str, Any]:
    """Return log loss, Brier score and calibration errors without calibration, by temperature, and by isotonic maps.

    Parameters
    ----------
    raw : ndarray, shape (n, C)
        Probabilities, before the calibration if that is known. A temperature that they have already changes nothing of
        the comparison but its first entry.
    is_raw : bool
    true : ndarray, shape (n,), int64
    target_id : ndarray, shape (n,), int64
    """
    second = second_half(target_id)
    by_method = {"temperature": np.empty(raw.shape), "isotonic": np.empty(raw.shape)}
    for fits in (second, ~second):
        temperature = fit_temperature(raw[fits], true[fits])
        hot = tempered(raw, temperature)
        by_method["temperature"][~fits] = hot[~fits]
        by_method["isotonic"][~fits] = apply_classes(fit_classes(hot[fits], true[fits]), hot[~fits])
    first = {"none": raw} if is_raw else {}
    return {name: _scores_of_classes(p, true, target_id) for name, p in {**first, **by_method}.items()}


def _scores_of_classes(probability: np.ndarray, true: np.ndarray, target_id: np.ndarray) -> dict[str, float]:
    rows = np.arange(len(true))
    best = probability.argmax(axis=1)
    top = reliability(probability.max(axis=1), best == true, target_id)
    single = [
        reliability(probability[:, one], true == one, target_id).debiased_error for one in range(probability.shape[1])
    ]
    return {
        "log_loss": float(-np.log(np.maximum(probability[rows, true], _TINY)).mean()),
        "brier": float(((probability - np.eye(probability.shape[1])[true]) ** 2).sum(axis=1).mean()),
        "ece": top.debiased_error,
        "ece_value": top.error,
        "classwise_ece": float(np.mean(single)),
        "accuracy": float((best == true).mean()),
    }


def compare_densities(pit: np.ndarray, target_id: np.ndarray) -> dict[str, Any]:
    """Return the coverage error of predicted densities as they are, and after a map of their cumulated probability.

    Parameters
    ----------
    pit : ndarray, shape (n,)
        Predicted probability of a value below the true one.
    target_id : ndarray, shape (n,), int64

    Returns
    -------
    dict
        For ``as_predicted`` and ``isotonic``: ``coverage_error``, ``ks`` (largest distance of the distribution of PIT
        from a uniform one), and ``log_loss_change`` by the map [nat].
    """
    second = second_half(target_id)
    mapped, slope = np.empty(len(pit)), np.empty(len(pit))
    for fits in (second, ~second):
        table = fit_density(pit[fits])
        mapped[~fits], slope[~fits] = apply_density(table, pit[~fits]), slope_of_density(table, pit[~fits])
    found = {}
    for name, values, change in (
        ("as_predicted", pit, 0.0),
        ("isotonic", mapped, float(-np.log(slope).mean())),
    ):
        ordered, share = np.sort(values), np.arange(len(values) + 1) / len(values)
        ks = max(np.max(ordered - share[:-1]), np.max(share[1:] - ordered))
        found[name] = {
            "coverage_error": coverage_error(central_level(values)),
            "ks": float(ks),
            "log_loss_change": change,
        }
    return found


def enough(target_id: np.ndarray) -> bool:
    """Return whether each half has the objects that a map needs."""
    second = second_half(target_id)
    return bool(min(np.count_nonzero(second), np.count_nonzero(~second)) >= FEWEST_TO_REMAP)
