"""What the predicted columns of a label mean. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hpctrain.families.shown import Column

SUFFIXES: Mapping[str, Column] = {
    "PRED": Column("", "prediction, in the unit of the label"),
    "ERR": Column("", "calibrated standard deviation of the prediction; of a density, half of its central 68 %"),
    "CODE": Column("", "number of the most probable class in the model's card; -1 for a sample without input"),
    "PROB": Column("", "calibrated probability of each class, in the order of the model's card"),
    "LOW": Column("", "value below which 15.9 % of the probability is"),
    "MEDIAN": Column("", "value below which half of the probability is"),
    "HIGH": Column("", "value below which 84.1 % of the probability is"),
    "PEAK": Column("", "probability of the highest peak"),
    "TRUE": Column("", "label; NaN or empty where there is none"),
    "TRUE_CODE": Column("", "number of the class of the label; -1 where there is none"),
    "RESIDUAL": Column("", "predicted minus true value; divided by 1 + true value for spacing log1p"),
    "PULL": Column("", "residual divided by the standard deviation of prediction and label"),
    "PIT": Column("", "predicted probability of a lower value than the true one"),
    "CRPS": Column("", "continuous ranked probability score, in the unit of the label or of its grid"),
    "LOG_LOSS": Column("", "minus the log of the probability of the true class"),
}
"""Meaning of each column by the end of its name."""


class Columns(Mapping[str, Column]):
    """Columns of predictions by their whole names, ``<title>_<suffix>``, for any title."""

    def __getitem__(self, name: str) -> Column:
        for suffix in sorted(SUFFIXES, key=len, reverse=True):
            if name.endswith(f"_{suffix}"):
                return SUFFIXES[suffix]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
