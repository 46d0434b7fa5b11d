"""Clean, normalise and change light curves at random, on their device. N curves, P points, B bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hpctrain.kinds.light_curves.batch import NO_BAND, LightCurveBatch

if TYPE_CHECKING:
    from hpctrain.kinds.light_curves.section import AugmentCurvesSection


def prepare(batch: LightCurveBatch, by: str, num_bands: int) -> LightCurveBatch:
    """Return a batch of finite numbers without points that cannot be used, normalised.

    Parameters
    ----------
    batch : LightCurveBatch
    by : str
        ``data.normalise``.
    num_bands : int
        B.
    """
    band, exists = batch["band"], batch.exists
    good = exists & torch.isfinite(batch["time"]) & torch.isfinite(batch["value"])
    good = good & torch.isfinite(batch["error"]) & (batch["error"] > 0)
    changes = {
        "time": torch.where(good, batch["time"], 0.0),
        "value": torch.where(good, batch["value"], 0.0),
        "error": torch.where(good, batch["error"], 1.0),
        "band": torch.where(good, band, NO_BAND),
        "num_bad": (exists & ~good).sum(dim=1),
        "scale": torch.ones_like(batch["time"][:, 0]),
    }
    return normalise(batch.with_tensors(changes), by, num_bands)


def normalise(batch: LightCurveBatch, by: str, num_bands: int) -> LightCurveBatch:
    """Return a batch whose times begin at 0 and whose values have mean 0 and scatter 1; points that exist come first.

    Points weigh ``1 / (error^2 + e^2)``, where e is the geometric mean of the errors of their curve, so that no point
    of a tiny error decides alone. Normalising again, after points were hidden, gives what normalising the rest at once
    would give.

    Parameters
    ----------
    batch : LightCurveBatch
        Cleaned.
    by : str
        ``curve``, ``band`` or ``none``; see ``data.normalise``.
    num_bands : int
        B.
    """
    batch = _without_holes(batch)
    exists = batch.exists
    first = torch.where(exists, batch["time"], torch.inf).amin(dim=1, keepdim=True)
    time = torch.where(exists, batch["time"] - first, 0.0)
    value, error, scale = batch["value"], batch["error"], batch["scale"]
    if by != "none":
        number = exists.sum(dim=1, keepdim=True).clamp(min=1)
        typical = torch.exp(torch.where(exists, torch.log(error), 0.0).sum(dim=1, keepdim=True) / number)
        weight = torch.where(exists, 1.0 / (1.0 + (error / typical).square()), 0.0)
        value = value - _means(value, weight, batch["band"], num_bands if by == "band" else 1)
        variance = (weight * value.square()).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-12)
        divisor = torch.sqrt(variance)
        divisor = torch.where(divisor > 0, divisor, typical[:, 0])  # a single point has no scatter
        value, error, scale = value / divisor[:, None], error / divisor[:, None], scale * divisor
    return batch.with_tensors(
        {
            "time": time,
            "value": torch.where(exists, value, 0.0),
            "error": torch.where(exists, error, 1.0),
            "band": torch.where(exists, batch["band"], NO_BAND),
            "scale": scale,
        }
    )


def _without_holes(batch: LightCurveBatch) -> LightCurveBatch:
    """Move the points that do not exist behind those that do, so that consecutive points are neighbours in time."""
    order = torch.argsort((~batch.exists).to(torch.int8), dim=1, stable=True)
    points = ("time", "value", "error", "band", "phase")
    return batch.with_tensors({name: batch[name].gather(1, order) for name in points if name in batch.columns})


def _means(value: Tensor, weight: Tensor, band: Tensor, num_bands: int) -> Tensor:
    """Return the weighted mean of the curve, or of the band of each point, for each point (N, P) or (N, 1)."""
    if num_bands == 1:
        return (weight * value).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp(min=1e-12)
    found = torch.zeros_like(value)
    for number in range(num_bands):
        here = torch.where(band == number, weight, 0.0)
        mean = (here * value).sum(dim=1, keepdim=True) / here.sum(dim=1, keepdim=True).clamp(min=1e-12)
        found = torch.where(band == number, mean, found)
    return found


def augment(batch: LightCurveBatch, section: AugmentCurvesSection, by: str, num_bands: int) -> LightCurveBatch:
    """Hide points and add noise at random, then normalise what is left.

    The random numbers come from torch's global state, which the trainer sets for each micro-batch, so they depend on
    seed, step and place in the step alone.
    """
    time, exists = batch["time"], batch.exists
    keep, value, error = exists, batch["value"], batch["error"]
    if section.cut:
        last = torch.where(exists, time, 0.0).amax(dim=1, keepdim=True)
        until = torch.where(_uniform(time[:, :1]) < section.cut, last * _uniform(time[:, :1]), torch.inf)
        keep = keep & (time <= until)
    if section.drop:
        keep = keep & (_uniform(time) >= section.drop * _uniform(time[:, :1]))
    # The first point stays, so that no curve is empty.
    keep = keep | (exists & (exists.cumsum(dim=1) == 1))
    if section.noise:
        value = value + section.noise * error * torch.randn_like(value)
        error = error * (1 + section.noise**2) ** 0.5
    hidden = {"value": value, "error": error, "band": torch.where(keep, batch["band"], NO_BAND)}
    return normalise(batch.with_tensors(hidden), by, num_bands)


def cut_after(batch: LightCurveBatch, days: float) -> LightCurveBatch:
    """Return curves, as they were read, without the points that come later than so many days after the first."""
    late = batch["time"] > days
    return batch.with_tensors({"band": torch.where(late, NO_BAND, batch["band"])})


def _uniform(like: Tensor) -> Tensor:
    return torch.rand(like.shape, device=like.device)
