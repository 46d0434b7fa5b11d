"""What the predicted columns of labels mean, with their units. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpctrain.families.shown import Column

SUFFIXES: Mapping[str, str] = {
    "PRED": "prediction",
    "ERR": "calibrated standard deviation of the prediction; of a density, half of its central 68 %",
    "CODE": "number of the most probable class in the model's card; -1 for a sample without input",
    "PROB": "calibrated probability of each class",
    "LOW": "value below which 15.9 % of the probability is",
    "MEDIAN": "value below which half of the probability is",
    "HIGH": "value below which 84.1 % of the probability is",
    "PEAK": "probability of the highest peak",
    "ALEATORIC": "part of the uncertainty that all models of an ensemble share: standard deviation, or entropy [nat]",
    "EPISTEMIC": "part of the uncertainty by which the models of an ensemble differ, in the same unit",
    "SET": "1 for each class of the conformal set, which holds the true class as often as asked",
    "INTERVAL_LOW": "lower end of the conformal interval, which holds the true value as often as asked",
    "INTERVAL_HIGH": "upper end of the conformal interval",
    "TRUE": "label; NaN or empty where there is none",
    "TRUE_CODE": "number of the class of the label; -1 where there is none",
    "RESIDUAL": "predicted minus true value",
    "OUTLIER": "1 where the residual is larger than the limit of the label, else 0",
    "PULL": "residual divided by the standard deviation of prediction and label",
    "PIT": "predicted probability of a lower value than the true one",
    "HPD": "predicted probability of all values that are more probable than the true one",
    "PROB_RAW": "probability of each class before the calibration",
    "PIT_RAW": "predicted probability of a lower value than the true one, before the calibration",
    "CRPS": "continuous ranked probability score, in the unit that is learned",
    "CDE_LOSS": "integral of the squared density minus twice the density at the truth, per unit of the label",
    "LOG_LOSS": "minus the log of the probability of the true class",
    "NLL": "minus the log of the predicted probability density of the true value, in the unit that is learned",
}
"""Meaning of each column by the end of its name."""

_WITH_UNIT = (
    "PRED",
    "ERR",
    "LOW",
    "MEDIAN",
    "HIGH",
    "INTERVAL_LOW",
    "INTERVAL_HIGH",
    "ALEATORIC",
    "EPISTEMIC",
    "TRUE",
    "RESIDUAL",
)


def columns_of(labels: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """Return the meaning of all columns that the labels of a model's card can have.

    Parameters
    ----------
    labels : sequence of mapping
        ``section.labels`` of the card.
    """
    found = {}
    for label in labels:
        title = label.get("name") or str(label["column"]).rsplit("/", 1)[-1]
        for suffix, meaning in SUFFIXES.items():
            unit = (label.get("unit") or "") if suffix in _WITH_UNIT else ""
            if suffix in ("PROB", "SET") and label.get("classes"):
                meaning = f"{meaning}: {', '.join(label['classes'])}"
            if suffix == "RESIDUAL" and label.get("spacing") == "log1p":
                unit, meaning = "", f"{meaning}, divided by 1 + true value"
            found[f"{title}_{suffix}"] = Column(unit, meaning)
    return found
