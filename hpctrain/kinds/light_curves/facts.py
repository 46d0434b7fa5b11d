"""What a model must know of light curves. B bands, F features. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hpctrain.kinds.light_curves.samples import LightCurveSamples

MOST_CURVES = 20_000
"""Largest number of curves from which the facts are taken."""


NUM_QUANTILES = 65
"""Quantiles of a column of numbers per curve, from the smallest number to the largest."""


@dataclass(frozen=True)
class LightCurveFacts:
    """Facts that size a network for light curves.

    Parameters
    ----------
    bands : tuple of str
        Names of the B bands, in the order of their numbers.
    max_points : int
        Largest number of points of a curve that a network sees.
    span_days : float
        Length of a long curve: 95 % are not longer [day].
    step_days : float
        A short distance of two points: 90 % are not shorter [day].
    is_folded : bool
        Whether each point has a phase.
    features : tuple of str
        Names of the F numbers per curve that the model reads beside the points.
    centre, scale : tuple of float
        Median and robust scatter of these numbers.
    quantiles : tuple of tuple of float
        `NUM_QUANTILES` evenly spaced quantiles of each of these numbers; empty for a model that was made before they
        were kept.
    """

    bands: tuple[str, ...]
    max_points: int
    span_days: float
    step_days: float
    is_folded: bool = False
    features: tuple[str, ...] = ()
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    quantiles: tuple[tuple[float, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return found | {"quantiles": [list(values) for values in self.quantiles]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LightCurveFacts:
        """Read back what :meth:`to_json` returned."""
        found = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**found | {"quantiles": tuple(map(tuple, values.get("quantiles", ())))})

    def difference(self, samples: LightCurveSamples) -> str | None:
        """Return why a model made for these facts cannot read `samples`; None if it can."""
        if samples.bands != self.bands:
            return f"data.bands is {', '.join(samples.bands)}; the model reads {', '.join(self.bands)}"
        if samples.feature_names != self.features:
            return f"data.features is {list(samples.feature_names)}; the model reads {list(self.features)}"
        if samples.is_folded != self.is_folded:
            return "the model " + ("needs data.fold" if self.is_folded else "was trained without data.fold")
        return None


def facts_of(samples: LightCurveSamples, rows: np.ndarray) -> LightCurveFacts:
    """Return the facts about these rows (n,) of a set of light curves."""
    chosen = rows[:MOST_CURVES] if len(rows) else rows
    spans, steps = samples.spans_and_steps(chosen)
    span = float(np.quantile(spans, 0.95)) if len(spans) else 1.0
    step = float(np.quantile(steps, 0.1)) if len(steps) else 1.0
    features = samples.features[rows] if samples.feature_names else np.zeros((len(rows), 0), np.float32)
    numbers = [_distribution(values[np.isfinite(values)]) for values in features.T.astype(np.float64)]
    return LightCurveFacts(
        bands=samples.bands,
        max_points=samples.max_points,
        span_days=max(span, 1e-3),
        step_days=min(max(step, 1e-4), max(span, 1e-3)),
        is_folded=samples.is_folded,
        features=samples.feature_names,
        centre=tuple(centre for centre, _, _ in numbers),
        scale=tuple(scale for _, scale, _ in numbers),
        quantiles=tuple(quantiles for _, _, quantiles in numbers),
    )


def _distribution(known: np.ndarray) -> tuple[float, float, tuple[float, ...]]:
    """Return median, robust scatter and quantiles of some numbers (n,), of which there may be none."""
    if not len(known):
        return 0.0, 1.0, (0.0,) * NUM_QUANTILES
    middle = float(np.median(known))
    scatter = 1.4826 * float(np.median(np.abs(known - middle)))
    quantiles = np.quantile(known, np.linspace(0, 1, NUM_QUANTILES))
    return middle, scatter or float(known.std()) or 1.0, tuple(quantiles.tolist())
