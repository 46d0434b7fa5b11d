"""The space in which clusters are found: scaled inputs, or their principal components.

N objects, F inputs, of which G are used, D axes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from hpctrain.errors import DataError
from hpctrain.families.clusters.section import MEDIAN, PCA
from hpctrain.profile.near import did_you_mean

if TYPE_CHECKING:
    from hpctrain.families.clusters.section import ClustersSection

_IQR_OF_NORMAL = 1.3489795003921634
"""Interquartile range of a normal distribution of standard deviation 1."""


WILD = 100.0
"""Distance from the median, in robust standard deviations, beyond which a value does not count for the standard one."""


class Space(nn.Module):
    """From inputs to points, and to the two axes in which the report draws them.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        ``centre``, ``spread``, ``mean`` (G,), ``axes`` (G, D), ``view`` (G, 2), float64; ``used`` (G,), int64: the
        numbers of the used inputs.
    clip : float or None
        Largest absolute value of a scaled input.
    fills : bool
        Whether a missing input counts as the median; otherwise the object has no point.
    """

    names: tuple[str, ...] = ("centre", "spread", "mean", "axes", "view")
    is_network = True

    def __init__(self, arrays: Mapping[str, np.ndarray], clip: float | None, fills: bool) -> None:
        super().__init__()
        for name in self.names:
            self.register_buffer(name, torch.from_numpy(np.array(arrays[name], dtype=np.float64)))
        self.register_buffer("used", torch.from_numpy(np.array(arrays["used"], dtype=np.int64)))
        self.clip, self.fills = clip, fills

    def scaled(self, inputs: Tensor) -> Tensor:
        """Return scaled inputs (N, G), float64; a missing one is 0 where the space fills, otherwise NaN."""
        found = (inputs[:, self.used].double() - self.centre) / self.spread
        if self.clip is not None:
            found = found.clamp(-self.clip, self.clip)
        known = torch.isfinite(found)
        return torch.where(known, found, torch.full_like(found, 0.0 if self.fills else torch.nan))

    def usable(self, inputs: Tensor) -> Tensor:
        """Return, for each object, whether it has a point, (N,), bool."""
        known = torch.isfinite(inputs[:, self.used])
        return known.any(dim=1) if self.fills else known.all(dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the points (N, D), float64, of inputs (N, F); 0 for an object without a point."""
        shifted = self.scaled(inputs) - self.mean
        return torch.where(self.usable(inputs)[:, None], shifted, torch.zeros_like(shifted)) @ self.axes

    def seen(self, inputs: Tensor) -> Tensor:
        """Return the first two principal components of the scaled inputs, (N, 2), for a picture."""
        shifted = self.scaled(inputs) - self.mean
        return torch.where(self.usable(inputs)[:, None], shifted, torch.full_like(shifted, torch.nan)) @ self.view

    def state(self) -> dict[str, np.ndarray]:
        """Return its arrays."""
        return {name: getattr(self, name).numpy() for name in (*self.names, "used")}


def fit_space(inputs: np.ndarray, section: ClustersSection, used: np.ndarray) -> Space:
    """Return the space of training objects.

    Parameters
    ----------
    inputs : ndarray, shape (N, F), float32
        NaN where a value is missing.
    section : ClustersSection
    used : ndarray, shape (G,), int64
        Numbers of the inputs to use.
    """
    num = len(used)
    centre, spread = np.zeros(num), np.ones(num)
    for number, column in enumerate(inputs[:, used].T.astype(np.float64)):
        known = column[np.isfinite(column)]
        if section.scale != "none" and len(known):
            low, centre[number], high = np.quantile(known, (0.25, 0.5, 0.75))
            spread[number] = (high - low) / _IQR_OF_NORMAL or known.std() or 1.0
            if section.scale == "standard":
                spread[number] = _standard(known, centre[number], spread[number]) or 1.0
        elif len(known):
            centre[number] = np.median(known) if section.missing_values == MEDIAN else 0.0
    fills = section.missing_values == MEDIAN
    arrays = {"centre": centre, "spread": spread, "mean": np.zeros(num), "axes": np.eye(num), "view": np.eye(num, 2)}
    arrays["used"] = used
    plain = Space(arrays, section.clip, fills)
    with torch.no_grad():
        tensor = torch.from_numpy(inputs)
        scaled = plain.scaled(tensor)[plain.usable(tensor)].numpy()
    mean, axes, variance = principal_axes(scaled)
    arrays |= {"mean": mean, "view": np.pad(axes[:, :2], ((0, 0), (0, max(0, 2 - num))))}
    if section.reduce == PCA:
        arrays["axes"] = axes[:, : num_axes(variance, section.components)]
    return Space(arrays, section.clip, fills)


def _standard(values: np.ndarray, centre: float, spread: float) -> float:
    """Return the standard deviation of values; wild ones count as being at the limit.

    So one wild value does not make all others equal.
    """
    return float(np.clip(values, centre - WILD * spread, centre + WILD * spread).std())


def principal_axes(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean (F,), principal axes as columns (F, F), and their variances (F,), the largest one first.

    The sign of an axis is such that its largest number is positive.
    """
    mean = scaled.mean(axis=0)
    values, axes = np.linalg.eigh(np.atleast_2d(np.cov(scaled, rowvar=False)))
    axes, values = axes[:, ::-1], values[::-1].clip(min=0)
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return mean, axes * np.where(largest < 0, -1.0, 1.0), values


def num_axes(variance: np.ndarray, components: float) -> int:
    """Return how many principal components are asked for: a number, or enough for a share of the variance."""
    if isinstance(components, int):
        return components
    share = np.cumsum(variance) / max(float(variance.sum()), 1e-300)
    return int(np.searchsorted(share, components)) + 1 if share[-1] > 0 else 1


def used_inputs(section: ClustersSection, names: tuple[str, ...]) -> np.ndarray:
    """Return the numbers of the inputs in which clusters are found, (G,), int64.

    Raises
    ------
    DataError
        There is no such input, or there are fewer of them than principal components.
    """
    chosen = list(names) if section.inputs is None else section.inputs
    problems = [
        f"model.inputs: '{name}' is not one of the inputs{did_you_mean(name, names)}"
        for name in chosen
        if name not in names
    ]
    asked = section.components
    if section.reduce == PCA and isinstance(asked, int) and asked > len(chosen):
        problems.append(f"model.components: {asked} principal components of {len(chosen)} inputs; use fewer")
    if problems:
        raise DataError("\n".join(problems))
    return np.array([names.index(name) for name in chosen], dtype=np.int64)
