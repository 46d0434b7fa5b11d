"""The bundle holds some spectra with their results, and the device compares its own results with them.

The same graph can give other numbers on another device: a CPU without VNNI overflowed in INT8 graphs of old exports,
a GPU computes in TF32 or half precision, a runtime can have a bug. `hpctrain infer` therefore computes the reference
spectra first, and processes no other spectrum unless their results agree.

K reference spectra, L pixels, S latents. This module does not import torch.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from hpctrain.edge.prepare import Preparation
from hpctrain.monitor.jetson import board_name
from hpctrain.monitor.sysfs import read_text

NUM_REFERENCE = 16
"""Number of spectra in a bundle; also the default batch size, so that TensorRT needs no engine for another shape."""

LEAST_TOLERANCE = 0.01
"""Smallest tolerance, even for a graph without any deviation on the machine of the export. A GPU adds in another order,
and multiplies the float32 of an old bundle's engine in TF32, with 10 bits; latent vectors then differ by some
thousandths of their spread."""

_MARGIN = 2.0
"""Factor by which the tolerance grows with the largest deviation that was measured at export."""

_PREFIX = "reference_"


class Compute(Protocol):
    """An exported network, such as :class:`hpctrain.edge.runtime.OnnxNetwork`."""

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


@dataclass(frozen=True)
class Deviation:
    """Largest differences between the results of a device and the reference.

    Parameters
    ----------
    latents : float
        Difference of a latent, in units of its standard deviation over the held-out spectra.
    chi2 : float
        Relative difference of the reduced chi-square.
    """

    latents: float
    chi2: float

    def worst(self, other: Deviation) -> Deviation:
        """Return the larger of both numbers."""
        return Deviation(max(self.latents, other.latents), max(self.chi2, other.chi2))

    def tolerated(self) -> Deviation:
        """Return the tolerance that follows from a deviation measured at export."""
        return Deviation(LEAST_TOLERANCE + _MARGIN * self.latents, LEAST_TOLERANCE + _MARGIN * self.chi2)

    def exceeds(self, tolerance: Deviation) -> bool:
        """Whether a number is larger than its tolerance, or not a number."""
        return not (self.latents <= tolerance.latents and self.chi2 <= tolerance.chi2)


@dataclass(frozen=True)
class Reference:
    """Spectra as they are in a file, and the results of the network for them, by PyTorch in float32.

    Parameters
    ----------
    flux, ivar : ndarray, shape (K, L), float32
    wavelength_aa : ndarray, shape (L,) or (K, L), float64
        Observed vacuum wavelengths [AA].
    redshift : ndarray, shape (K,), float64
    latents : ndarray, shape (K, S), float32
    chi2 : ndarray, shape (K,), float32
        Reduced chi-square of the reconstruction.
    spread : ndarray, shape (S,), float32
        Standard deviation of the latents over the held-out spectra; a latent of spread 0 is not compared.
    tolerance : Deviation
    """

    flux: np.ndarray
    ivar: np.ndarray
    wavelength_aa: np.ndarray
    redshift: np.ndarray
    latents: np.ndarray
    chi2: np.ndarray
    spread: np.ndarray
    tolerance: Deviation = Deviation(0.0, 0.0)

    def __len__(self) -> int:
        return len(self.flux)

    def deviation(self, preparation: Preparation, network: Compute, batch_size: int = NUM_REFERENCE) -> Deviation:
        """Compute the spectra and compare the results with the reference.

        Parameters
        ----------
        preparation : Preparation
        network : Compute
        batch_size : int
            Spectra in each call; the last call may have fewer.
        """
        latents, chi2 = [], []
        for start in range(0, len(self), batch_size):
            rows = slice(start, start + batch_size)
            grid = self.wavelength_aa if self.wavelength_aa.ndim == 1 else self.wavelength_aa[rows]
            prepared = preparation(self.flux[rows], self.ivar[rows], grid, self.redshift[rows])
            columns = preparation.catalogue(prepared, network(prepared.feeds))
            latents.append(columns["LATENT_VEC"])
            chi2.append(columns["RECON_MSE"])
        varies = self.spread > 1e-6 * max(float(self.spread.max()), 1e-30)
        shift = np.abs(np.concatenate(latents) - self.latents)[:, varies] / self.spread[varies]
        misfit = np.abs(np.concatenate(chi2) - self.chi2) / np.maximum(np.abs(self.chi2), 1e-6)
        return Deviation(_largest(shift), _largest(misfit))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return arrays for ``reference.npz``."""
        values = {name: value for name, value in self.__dict__.items() if name != "tolerance"}
        values["tolerance"] = np.array([self.tolerance.latents, self.tolerance.chi2])
        return {f"{_PREFIX}{name}": value for name, value in values.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Reference | None:
        """Read back what :meth:`to_arrays` returned; None in a bundle of an older hpctrain.

        Raises
        ------
        KeyError, ValueError
            Some of the arrays are missing or do not fit together.
        """
        if f"{_PREFIX}flux" not in arrays:
            return None
        values = {name: arrays[f"{_PREFIX}{name}"] for name in cls.__dataclass_fields__}
        latents, chi2 = (float(value) for value in values.pop("tolerance"))
        number = len(values["flux"])
        if not number or any(len(values[name]) != number for name in ("ivar", "redshift", "latents", "chi2")):
            raise ValueError("the reference spectra and their results do not fit together")
        return cls(**values, tolerance=Deviation(latents, chi2))


def _largest(values: np.ndarray) -> float:
    """Return the maximum; infinity if a value is not finite."""
    if not values.size:
        return 0.0
    return float(values.max()) if np.isfinite(values).all() else float("inf")


def device_name(root: Path = Path("/")) -> str:
    """Return the name of the board or CPU, such as ``NVIDIA Jetson AGX Orin`` or ``AMD EPYC 7B12``.

    Parameters
    ----------
    root : Path
        Folder that holds ``proc``.
    """
    if (board := board_name(root)) is not None:
        return board
    lines = (read_text(root / "proc/cpuinfo") or "").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
