"""Baselines to compare a network with: the mean spectrum and weighted PCA, both in the rest frame.

N spectra, L observed pixels, R rest-frame pixels, K components. Both use the same normalised batches, weights and rest
grid as the network, and the same interpolation from the rest frame to the observed pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.batch import SpectraBatch


class RestFrame(Protocol):
    """The part of :class:`hpctrain.kinds.spectra.rest_grid.RestGrid` that the baselines use."""

    num_pixels: int

    def position(self, wavelength_aa: Tensor, redshift: Tensor) -> Tensor: ...

    def covers(self, position: Tensor) -> Tensor: ...

    def interpolate(self, rest: Tensor, position: Tensor) -> Tensor: ...


class WeightedPCA:
    """Principal components of noisy spectra with gaps; K = 0 gives the mean spectrum.

    Parameters
    ----------
    grid : RestFrame
        Rest-frame grid.
    mean : Tensor, shape (R,), float64
        Mean spectrum.
    basis : Tensor, shape (K, R), float64
        Components, scaled so that scores have unit variance over the training spectra.

    References
    ----------
    .. [1] Bailey 2012, PASP 124, 1015, arXiv:1208.4122: PCA of noisy, missing data by expectation maximisation.
    .. [2] Tipping & Bishop 1999, J. R. Stat. Soc. B 61, 611: the normal prior on the scores.
    """

    def __init__(self, grid: RestFrame, mean: Tensor, basis: Tensor) -> None:
        self.grid, self.mean, self.basis = grid, mean, basis

    @property
    def num_components(self) -> int:
        """K."""
        return len(self.basis)

    @classmethod
    def fit(
        cls,
        batches: Iterable[SpectraBatch],
        grid: RestFrame,
        num_components: int,
        *,
        scatter: float = 0.1,
        smoothness: float = 1.0,
        num_iterations: int = 30,
        seed: int = 0,
    ) -> WeightedPCA:
        """Fit mean and components.

        Parameters
        ----------
        batches : iterable of SpectraBatch
            Normalised training spectra; the method keeps all of them in memory on the rest grid.
        grid : RestFrame
            Rest-frame grid.
        num_components : int
            Number K of components; 0 fits the mean alone.
        scatter : float
            Intrinsic scatter about the model in units of the norm, added to the noise in quadrature. Without it, the
            few brightest spectra dominate the fit.
        smoothness : float
            Standard deviation of a normal prior on each pixel of mean and basis; it constrains pixels that few spectra
            cover.
        num_iterations : int
            Rounds of expectation and maximisation.
        seed : int
            Seed of the first guess.
        """
        pairs = [_to_rest(batch, grid) for batch in batches]
        flux, ivar = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
        weight = torch.where(ivar > 0, 1 / (1 / ivar.clamp(min=1e-12) + scatter**2), 0)
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randn(len(flux), num_components, generator=generator, dtype=flux.dtype)
        model = cls(grid, flux.new_ones(grid.num_pixels), flux.new_zeros(num_components, grid.num_pixels))
        for _ in range(num_iterations if num_components else 1):
            model._maximise(flux, weight, scores, 1 / smoothness**2)
            scores = model._solve_scores(
                flux, weight, model.mean.expand_as(flux), model.basis.expand(len(flux), -1, -1)
            )
            scores = _whiten(scores)
        if num_components:
            model._maximise(flux, weight, scores, 1 / smoothness**2)
        return model

    def _maximise(self, flux: Tensor, weight: Tensor, scores: Tensor, ridge: float) -> None:
        """Solve each pixel's weighted least squares for mean and components, given the scores."""
        design = torch.cat([scores.new_ones(len(scores), 1), scores], dim=1)
        pairs = (design[:, :, None] * design[:, None, :]).flatten(1)
        size = design.shape[1]
        normal = (weight.T @ pairs).view(-1, size, size) + ridge * torch.eye(size, dtype=flux.dtype)
        right = ((flux - 1) * weight).T @ design  # pixels without data get 1, the mean of normalised spectra
        solution = torch.linalg.solve(normal, right[..., None])[..., 0].T
        self.mean, self.basis = 1 + solution[0], solution[1:]

    @staticmethod
    def _solve_scores(flux: Tensor, weight: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
        """Most probable scores (N, K) given mean (N, P) and basis (N, K, P), under their unit normal prior."""
        scores = []
        for row in range(len(flux)):
            weighted = basis[row] * weight[row]
            normal = weighted @ basis[row].T + torch.eye(len(weighted), dtype=flux.dtype)
            scores.append(torch.linalg.solve(normal, weighted @ (flux[row] - mean[row])))
        return torch.stack(scores)

    def reconstruct(self, batch: SpectraBatch) -> tuple[Tensor, Tensor]:
        """Fit the scores to each spectrum's own pixels and return the fit.

        This favours PCA: its scores minimise the χ² that judges them, while a network's encoder does not.

        Returns
        -------
        reconstruction : Tensor, shape (N, L), float32
            Normalised flux.
        covered : Tensor, shape (N, L), bool
            Pixels on the rest grid.
        """
        position = self.grid.position(batch.wavelength_aa, batch.redshift)
        covered = self.grid.covers(position)
        fits = []
        for row in range(len(batch)):
            here = position[row : row + 1]
            atoms = torch.cat([self.mean[None], self.basis])
            shifted = self.grid.interpolate(atoms, here.expand(len(atoms), -1))
            mean, basis = shifted[:1], shifted[None, 1:]
            weight = torch.where(covered[row : row + 1], batch.ivar[row : row + 1], 0).double()
            flux = torch.where(weight > 0, batch.flux[row : row + 1], 0).double()
            fit = mean
            if self.num_components:
                fit = mean + self._solve_scores(flux, weight, mean, basis) @ basis[0]
            fits.append(fit)
        return torch.cat(fits).float(), covered


def _to_rest(batch: SpectraBatch, grid: RestFrame) -> tuple[Tensor, Tensor]:
    """Assign each valid pixel to the nearest rest-frame pixel, and average several on one with their weights."""
    position = grid.position(batch.wavelength_aa, batch.redshift)
    weight = torch.where(grid.covers(position), batch.ivar, 0).double()
    flux = torch.where(weight > 0, batch.flux, 0).double()
    index = position.round().clamp(0, grid.num_pixels - 1).long()
    empty = torch.zeros(len(batch), grid.num_pixels, dtype=torch.float64)
    ivar = empty.scatter_add(1, index, weight)
    total = empty.scatter_add(1, index, weight * flux)
    return torch.where(ivar > 0, total / ivar.clamp(min=1e-300), 0), ivar


def _whiten(scores: Tensor) -> Tensor:
    """Return scores with zero mean, unit variance and no correlation; the next fit of the basis adapts to the scale."""
    centred = scores - scores.mean(dim=0)
    covariance = centred.T @ centred / len(scores)
    values, vectors = torch.linalg.eigh(covariance + 1e-12 * torch.eye(len(covariance), dtype=scores.dtype))
    return centred @ vectors / values.sqrt()
