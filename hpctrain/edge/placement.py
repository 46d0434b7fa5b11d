"""Choose the layers that become INT8: each large one is tried alone, and the most harmful ones stay FP16.

The error that rounding causes depends on the layer: a filter over noise hardly changes, but the last product of a
decoder shows the step of its input in every bright spectrum. Rounding errors of different layers are independent, so
their variances of latents add up, and so do their rises of chi-square.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.edge.prepare import Preparation, Prepared
from hpctrain.edge.progress import SILENT, Progress
from hpctrain.edge.quantise import Calibration, calibrate, name_operations, write_int8
from hpctrain.edge.runtime import OnnxNetwork
from hpctrain.edge.sample import signal_to_noise
from hpctrain.profile.sections.edge import GatesSection

SHARE_OF_GATE = 0.5
"""Share of the gates' limits that the calibration spectra may reach; results of the held-out bins scatter around it."""

_SPECTRA = 256
"""Largest number of spectra on which the harm of a layer is measured."""
_BRIGHT = 90.0
"""Percentile of the rise of chi-square that counts; bright spectra show rounding errors that faint ones hide."""
SMALLEST_SHARE = 0.05
"""Layers with a smaller share of all weights and multiplications stay FP16: INT8 would gain nothing there, and clips
the activations of spectra unlike those of the calibration."""

_DEFAULTS = {"latent": 0.02, "chi2": 0.02}


@dataclass(frozen=True)
class Layer:
    """A convolution or product.

    Parameters
    ----------
    name : str
    latent_error : float
        Rms error of the latents, in units of their standard deviation, with this layer alone in INT8, in the worst
        quarter of the calibration spectra by signal to noise ratio or redshift.
    chi2_rise : float
        Relative rise of the reduced chi-square of bright spectra.
    is_int8 : bool
    """

    name: str
    latent_error: float
    chi2_rise: float
    is_int8: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``bundle.json``."""
        precision = "int8" if self.is_int8 else "fp16"
        return {
            "name": self.name,
            "precision": precision,
            "latent_error": self.latent_error,
            "chi2_rise": self.chi2_rise,
        }


def choose_layers(
    source: Path,
    prepared: Prepared,
    preparation: Preparation,
    gates: GatesSection,
    scratch: Path,
    *,
    for_tensorrt: bool,
    progress: Progress = SILENT,
) -> tuple[list[Layer], Calibration, Path]:
    """Choose the layers one by one.

    Parameters
    ----------
    source : Path
        Float32 ONNX file.
    prepared : Prepared
        Calibration spectra.
    preparation : Preparation
    gates : GatesSection
        `SHARE_OF_GATE` of their limits may be used up.
    scratch : Path
        Folder for temporary files.
    for_tensorrt : bool
        As in :func:`~hpctrain.edge.quantise.write_int8`.
    progress : Progress
        Shows the progress.

    Returns
    -------
    layers : list of Layer
    calibration : Calibration
        For :func:`~hpctrain.edge.quantise.write_int8`.
    named : Path
        Graph with named operations, the `source` of :func:`~hpctrain.edge.quantise.write_int8`.
    """
    named = scratch / "named.onnx"
    names = name_operations(source, named)
    calibration = calibrate(named, names, prepared.feeds, scratch)
    names = [name for name in names if calibration.share[name] >= SMALLEST_SHARE]
    few = _first(prepared, _SPECTRA)
    exact = _Measured.of(OnnxNetwork(named, ["CPUExecutionProvider"]), few, preparation)
    found: dict[str, tuple[float, float]] = {}
    for name in progress.track(names, "rounding each large layer alone", len(names)):
        path = scratch / "alone.onnx"
        write_int8(named, path, [name], calibration, for_tensorrt=for_tensorrt)
        rounded = _Measured.of(OnnxNetwork(path, ["CPUExecutionProvider"]), few, preparation)
        found[name] = exact.harm(rounded, few)
        path.unlink()
    latent_budget = (SHARE_OF_GATE * (gates.latent_error or _DEFAULTS["latent"])) ** 2
    chi2_budget = SHARE_OF_GATE * (_DEFAULTS["chi2"] if gates.chi2 is None else gates.chi2)
    used_latent = used_chi2 = 0.0
    chosen = set()
    for name in sorted(
        names, key=lambda name: max(found[name][0] ** 2 / latent_budget, _share(found[name][1], chi2_budget))
    ):
        latent, chi2 = found[name]
        if used_latent + latent**2 <= latent_budget and used_chi2 + chi2 <= chi2_budget:
            used_latent, used_chi2 = used_latent + latent**2, used_chi2 + chi2
            chosen.add(name)
    return [Layer(name, *found[name], name in chosen) for name in names], calibration, named


def _share(value: float, budget: float) -> float:
    return value / budget if budget > 0 else (0.0 if value == 0 else np.inf)


@dataclass(frozen=True)
class _Measured:
    """Results of a graph on the calibration spectra."""

    latents: np.ndarray
    reconstruction: np.ndarray
    covered: np.ndarray

    @classmethod
    def of(cls, network: OnnxNetwork, prepared: Prepared, preparation: Preparation) -> _Measured:
        outputs = network(prepared.feeds)
        return cls(outputs["latents"], *preparation.reconstruct(prepared, outputs["rest_flux"]))

    def harm(self, other: _Measured, prepared: Prepared) -> tuple[float, float]:
        """Return the error of the latents and the rise of chi-square of another graph."""
        spread = self.latents.std(axis=0)
        alive = spread > 1e-6 * max(float(spread.max()), 1e-30)
        error = np.square((other.latents - self.latents)[:, alive] / spread[alive], dtype=np.float64).mean(axis=1)
        weight = np.where(self.covered, prepared.feeds["ivar"], 0).astype(np.float64)
        misfit = np.square(prepared.feeds["flux"] - self.reconstruction, dtype=np.float64)
        change = np.square(other.reconstruction - self.reconstruction, dtype=np.float64)
        chi2 = (weight * misfit).sum(axis=1)
        rise = (weight * change).sum(axis=1)[chi2 > 0] / chi2[chi2 > 0]
        latent = max(float(np.sqrt(error[members].mean())) for members in _bins(prepared)) if alive.any() else 0.0
        return latent, float(np.percentile(rise, _BRIGHT)) if len(rise) else 0.0


def _bins(prepared: Prepared) -> list[np.ndarray]:
    """Return all spectra, and their quarters in signal to noise ratio and in redshift, as for the gates."""
    bins = [np.arange(len(prepared.position))]
    for values in (signal_to_noise(prepared), prepared.feeds["redshift"]):
        bins += [piece for piece in np.array_split(np.argsort(values, kind="stable"), 4) if len(piece)]
    return bins


def _first(prepared: Prepared, number: int) -> Prepared:
    """Return at most `number` of the spectra, evenly spaced."""
    total = len(prepared.position)
    places = np.unique(np.linspace(0, total - 1, min(number, total)).round().astype(np.int64))
    feeds: Mapping[str, np.ndarray] = {name: value[places] for name, value in prepared.feeds.items()}
    return Prepared(
        dict(feeds),
        prepared.position[places],
        prepared.norm[places],
        prepared.window[places],
        prepared.has_data[places],
    )
