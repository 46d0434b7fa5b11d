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
    """

    bands: tuple[str, ...]
    max_points: int
    span_days: float
    step_days: float
    is_folded: bool = False
    features: tuple[str, ...] = ()
    centre: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LightCurveFacts:
        """Read back what :meth:`to_json` returned."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

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
    centre, scale = [], []
    for values in features.T.astype(np.float64):
        known = values[np.isfinite(values)]
        middle = float(np.median(known)) if len(known) else 0.0
        scatter = 1.4826 * float(np.median(np.abs(known - middle))) if len(known) else 0.0
        centre.append(middle)
        scale.append(scatter or (float(known.std()) if len(known) else 0.0) or 1.0)
    return LightCurveFacts(
        bands=samples.bands,
        max_points=samples.max_points,
        span_days=max(span, 1e-3),
        step_days=min(max(step, 1e-4), max(span, 1e-3)),
        is_folded=samples.is_folded,
        features=samples.feature_names,
        centre=tuple(centre),
        scale=tuple(scale),
    )
