"""What is ordinary: plain arrays of reference objects, by which any other object gets an anomaly score.

An object is unusual if the network cannot reconstruct it, or if it lies in an empty part of latent space. Neither
question can be asked without others to compare with: bright objects have a large chi-square because small errors of the
model show, and so have objects whose redshift puts the Lyman-alpha forest into the spectrum. So chi-square is compared
with that of objects of the same signal to noise ratio and redshift. numpy is enough here, for devices without
scikit-learn; :mod:`hpctrain.families.spectral_vae.anomaly` fits a reference.

N objects, M reference objects, S latents, K Gaussian components, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

ORDINARY, POOR_FIT, RARE_LATENTS, BOTH, NOT_SCORED = 0, 1, 2, 3, 255
REASON = {
    ORDINARY: "ordinary",
    POOR_FIT: "poor fit",
    RARE_LATENTS: "rare latents",
    BOTH: "poor fit and rare latents",
    NOT_SCORED: "not scored",
}
"""Values of the column ANOMALY_REASON."""

UNUSUAL = 2.0
"""Score from which an object gets a reason: at most one in a hundred ordinary objects scores as high."""

SCORED = ("ANOMALY_SCORE", "LOCAL_CHI2", "LATENT_DENSITY", "ANOMALY_REASON")
"""Columns of :meth:`AnomalyReference.score`."""

_PREFIX = "anomaly_"
_LARGEST_PART_P = 0.05
"""Tail probability below which a part counts as a reason."""
_FARTHEST = 0.5
"""Largest distance from the nearest reference object over which its slopes are followed."""
_AT_ONCE = 1 << 22
"""Distances to compute at once, which limits the memory."""
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Tail:
    """The share of reference objects with a larger value, also beyond the largest of them.

    Parameters
    ----------
    value : ndarray, shape (Q,), float64
        Increasing values.
    log_p : ndarray, shape (Q,), float64
        Natural log of the share of reference objects above each of them. Between two values it is interpolated.
    scale : float
        Beyond the last value the share falls by a factor e over this distance.
    """

    value: np.ndarray
    log_p: np.ndarray
    scale: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the natural log of the share above each value."""
        inside = np.interp(values, self.value, self.log_p)
        return inside - np.maximum(values - self.value[-1], 0.0) / self.scale


@dataclass(frozen=True)
class AnomalyReference:
    """Reference objects as arrays.

    Parameters
    ----------
    place : ndarray, shape (M, 2), float32
        arcsinh(signal to noise ratio) and ln(1 + redshift) of each object, divided by `place_scale`.
    place_scale : ndarray, shape (2,), float32
        Standard deviation of both over the objects.
    local : ndarray, shape (M, 4), float32
        ln(reduced chi-square) of the neighbours of each object: value and robust standard deviation at its place, and
        slopes along both coordinates.
    log_weight, mean, whitening : ndarray, shapes (K,), (K, S), (K, S, S), float64
        Gaussian mixture of the latents: log of weight times normalisation, mean, and the matrix that turns a deviation
        from the mean into one with unit covariance.
    chi2_tail, density_tail, joint_tail : Tail
        Tails of LOCAL_CHI2, of minus LATENT_DENSITY, and of the sum of the logs of both tails.
    """

    place: np.ndarray
    place_scale: np.ndarray
    local: np.ndarray
    log_weight: np.ndarray
    mean: np.ndarray
    whitening: np.ndarray
    chi2_tail: Tail
    density_tail: Tail
    joint_tail: Tail

    @property
    def num_objects(self) -> int:
        """M."""
        return len(self.place)

    def score(
        self, latents: np.ndarray, chi2: np.ndarray, snr: np.ndarray, redshift: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Score objects.

        Parameters
        ----------
        latents : ndarray, shape (N, S)
            As the catalogue stores them, in half precision.
        chi2, snr, redshift : ndarray, shape (N,)
            Reduced chi-square of the reconstruction, median signal to noise ratio per pixel, redshift.

        Returns
        -------
        dict of ndarray, shape (N,)
            ``ANOMALY_SCORE`` float32, minus log10 of the false-alarm probability; ``LOCAL_CHI2`` float32 [robust
            sigma]; ``LATENT_DENSITY`` float32, natural log; ``ANOMALY_REASON`` uint8. NaN and `NOT_SCORED` where an
            input is not finite.

        References
        ----------
        .. [1] Fisher 1925, Statistical Methods for Research Workers, sect. 21.1: the sum of the logs of independent
           tail probabilities as a test. Here the sum of the reference objects calibrates it, not the chi-square
           distribution, because the two parts are not independent.
        """
        latents = np.asarray(latents, dtype=np.float32)
        values = [np.asarray(column, dtype=np.float64) for column in (chi2, snr, redshift)]
        good = np.isfinite(latents).all(axis=1) & np.isfinite(values).all(axis=0)
        table = no_scores(len(latents))
        if not good.any():
            return table
        chi2, snr, redshift = (column[good] for column in values)
        sigmas, density = self.local_chi2(chi2, snr, redshift), self.log_density(latents[good])
        parts = self.chi2_tail(sigmas), self.density_tail(-density)
        score = self.joint_tail(-(parts[0] + parts[1])) / -np.log(10.0)
        found = (score, sigmas, density, _reasons(score, *parts))
        for name, column in zip(SCORED, found, strict=True):
            table[name][good] = column
        return table

    def local_chi2(self, chi2: np.ndarray, snr: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """Return ln(chi-square) in robust standard deviations from that of similar objects, shape (N,)."""
        place = place_of(snr, redshift) / self.place_scale
        nearest = self._nearest(place)
        value, sigma, *slopes = self.local[nearest].T
        offset = np.clip(place - self.place[nearest], -_FARTHEST, _FARTHEST)
        return (np.log(np.maximum(chi2, _TINY)) - value - (offset * np.transpose(slopes)).sum(axis=1)) / sigma

    def log_density(self, latents: np.ndarray) -> np.ndarray:
        """Return the natural log of the probability density of latents under the mixture, shape (N,)."""
        parts = np.empty((len(latents), len(self.mean)))
        for number, (mean, whitening) in enumerate(zip(self.mean, self.whitening, strict=True)):
            parts[:, number] = -0.5 * np.square((latents - mean) @ whitening).sum(axis=1)
        parts += self.log_weight
        largest = parts.max(axis=1)
        return largest + np.log(np.exp(parts - largest[:, None]).sum(axis=1))

    def _nearest(self, place: np.ndarray) -> np.ndarray:
        """Return the nearest reference object of each place, shape (N,)."""
        nearest = np.empty(len(place), dtype=np.int64)
        place, step = place.astype(np.float32), max(1, _AT_ONCE // len(self.place))
        for start in range(0, len(place), step):
            piece = place[start : start + step, None]
            distance = np.square(piece[..., 0] - self.place[:, 0]) + np.square(piece[..., 1] - self.place[:, 1])
            nearest[start : start + step] = distance.argmin(axis=1)
        return nearest

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the reference as named arrays, for a file of them."""
        arrays = {}
        for field in fields(self):
            value = getattr(self, field.name)
            parts = {field.name: value}
            if isinstance(value, Tail):
                parts = {f"{field.name}_{name}": part for name, part in value.__dict__.items()}
            arrays |= {f"{_PREFIX}{name}": np.asarray(part) for name, part in parts.items()}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> AnomalyReference | None:
        """Read back what :meth:`to_arrays` returned; None if a file of an older version has nothing of it.

        Raises
        ------
        KeyError
            An array is absent.
        """
        if f"{_PREFIX}place" not in arrays:
            return None
        values: dict[str, np.ndarray | Tail] = {}
        for name in (field.name for field in fields(cls)):
            if name.endswith("_tail"):
                value, log_p, scale = (arrays[f"{_PREFIX}{name}_{part}"] for part in ("value", "log_p", "scale"))
                values[name] = Tail(value, log_p, float(scale))
            else:
                values[name] = arrays[f"{_PREFIX}{name}"]
        return cls(**values)


def no_scores(number: int) -> dict[str, np.ndarray]:
    """Return the columns of :meth:`AnomalyReference.score` for objects without anything to compare with."""
    table = {name: np.full(number, np.nan, dtype=np.float32) for name in SCORED}
    return {**table, "ANOMALY_REASON": np.full(number, NOT_SCORED, dtype=np.uint8)}


def place_of(snr: np.ndarray, redshift: np.ndarray) -> np.ndarray:
    """Return coordinates in which objects of similar signal to noise ratio and redshift are near, shape (N, 2)."""
    return np.column_stack([np.arcsinh(snr), np.log1p(np.maximum(redshift, -0.9))])


def _reasons(score: np.ndarray, chi2_log_p: np.ndarray, density_log_p: np.ndarray) -> np.ndarray:
    """Return the codes of the reasons; two parts that are unusual only together are both reasons."""
    poor, rare = chi2_log_p < np.log(_LARGEST_PART_P), density_log_p < np.log(_LARGEST_PART_P)
    reason = np.where(poor == rare, BOTH, np.where(poor, POOR_FIT, RARE_LATENTS))
    return np.where(score >= UNUSUAL, reason, ORDINARY).astype(np.uint8)
