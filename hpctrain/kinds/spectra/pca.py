"""Weighted principal components of spectra in the rest frame.

N spectra, L observed pixels, R rest-frame pixels, K components. The components are the start of the spectral
autoencoder and the templates of redshifts; with the mean spectrum they are the baselines that a network has to beat.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.batch import SpectraBatch

MAX_FLUX = 1e3
"""Largest normalised flux that counts: a pixel beyond it is an artefact that nobody masked, and one alone would own a
component. The brightest emission lines reach about 100."""

SPARE = 8
"""Components beyond those wanted in the first rounds of a robust fit. The rounds converge by the gap between the
variances of the last component that is kept and of the first one that is not, so spare ones save most of the rounds."""

WIDE_ROUNDS = (4, 20)
"""Rounds with spare components, first without and then with reweighting."""

_BLOCK = 256
"""Number of spectra that are worked on at a time."""


class RestFrame(Protocol):
    """The part of :class:`hpctrain.kinds.spectra.rest_grid.RestGrid` that PCA uses."""

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
    mean : Tensor, shape (R,), float32
        Mean spectrum.
    basis : Tensor, shape (K, R), float32
        Orthogonal components, scaled so that scores have unit variance over the training spectra; the first one
        explains most of the variance.

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

    def first(self, num_components: int) -> WeightedPCA:
        """Return the mean spectrum with the strongest components."""
        return WeightedPCA(self.grid, self.mean, self.basis[:num_components])

    @classmethod
    def fit(
        cls,
        batches: Iterable[SpectraBatch],
        grid: RestFrame,
        num_components: int,
        *,
        scatter: float = 0.1,
        smoothness: float = 1.0,
        num_iterations: int = 100,
        tolerance: float = 2e-4,
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
            Largest number of rounds of expectation and maximisation.
        tolerance : float
            The fit has converged when a round lowers the weighted sum of squares by a smaller share than this.
        seed : int
            Seed of the first guess. Fits from several seeds differ a little: the problem has local minima.
        """
        sample = RestSample.of(batches, grid)
        rounds = fit_rounds(sample, grid, num_components, scatter, smoothness, num_iterations, tolerance, seed)
        *_, model = rounds
        return model

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
        atoms = torch.cat([self.mean[None], self.basis]).double()
        fits = []
        for row in range(len(batch)):
            mean, *basis = self.grid.interpolate(atoms, position[row : row + 1].expand(len(atoms), -1))
            if not basis:
                fits.append(mean)
                continue
            components = torch.stack(basis)
            weight = torch.where(covered[row], batch.ivar[row], 0).double()
            weighted = components * weight
            flux = torch.where(weight > 0, batch.flux[row], 0).double()
            normal = weighted @ components.T + torch.eye(len(components), dtype=weight.dtype)
            fits.append(mean + torch.linalg.solve(normal, weighted @ (flux - mean)) @ components)
        return torch.stack(fits).float(), covered


class RestSample:
    """Spectra on the rest grid, in memory.

    Parameters
    ----------
    flux, ivar : Tensor, shape (N, R), float32
        Normalised flux and its inverse variance; 0 where a spectrum has no pixel.
    """

    def __init__(self, flux: Tensor, ivar: Tensor) -> None:
        self.flux, self.ivar = flux, ivar

    @classmethod
    def of(cls, batches: Iterable[SpectraBatch], grid: RestFrame) -> RestSample:
        """Put normalised spectra on a rest grid; spectra without a valid pixel are left out."""
        pairs = [_to_rest(batch, grid) for batch in batches]
        flux, ivar = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
        used = (ivar > 0).any(dim=1)
        return cls(flux[used], ivar[used])

    def __len__(self) -> int:
        return len(self.flux)


def fit_rounds(
    sample: RestSample,
    grid: RestFrame,
    num_components: int,
    scatter: float = 0.1,
    smoothness: float = 1.0,
    num_iterations: int = 100,
    tolerance: float = 2e-4,
    seed: int = 0,
    importance: Tensor | None = None,
) -> Iterator[WeightedPCA]:
    """Yield the fit after each round; the last one has converged.

    Parameters
    ----------
    sample : RestSample
        N spectra on the rest grid.
    grid : RestFrame
        That grid.
    num_components, scatter, smoothness, num_iterations, tolerance, seed
        As for :meth:`WeightedPCA.fit`.
    importance : Tensor, shape (N,), float32, optional
        Factor of the weight of each spectrum in mean and components; 1 by default.

    Yields
    ------
    WeightedPCA
    """
    flux, ivar = sample.flux, sample.ivar
    weight = torch.where(ivar > 0, 1 / (1 / ivar.clamp(min=1e-12) + scatter**2), 0)
    counted = weight if importance is None else weight * importance[:, None]
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(len(flux), num_components, generator=generator, dtype=flux.dtype).to(flux.device)
    pixel_weight, excess = counted.T.contiguous(), ((flux - 1) * counted).T.contiguous()
    mean, basis = _maximise(pixel_weight, excess, scores, 1 / smoothness**2)
    before = float("inf")
    for _ in range(num_iterations if num_components else 0):
        scores = _whiten(_solve_scores(flux, weight, mean, basis)).to(flux.dtype)
        mean, basis = _maximise(pixel_weight, excess, scores, 1 / smoothness**2)
        after = float(_misfits(flux, counted, mean, basis, scores).double().sum())
        yield WeightedPCA(grid, mean, _principal(basis))
        if before - after < tolerance * after:
            return
        before = after
    yield WeightedPCA(grid, mean, _principal(basis))


def fit_robust_rounds(
    sample: RestSample,
    grid: RestFrame,
    num_components: int,
    robust: float,
    scatter: float = 0.03,
    num_iterations: int = 60,
    tolerance: float = 1e-4,
    seed: int = 0,
    importance: Tensor | None = None,
) -> Iterator[WeightedPCA]:
    """Yield a fit after each round; the last one minimises a robust sum of chi-squares.

    A spectrum of n pixels counts as ``k n log(1 + chi2 / (k n))``, with ``k = robust``, as in the loss of the spectral
    autoencoder. So the fit needs less intrinsic scatter than a plain one to keep bright spectra from owning it. Each
    round weights a spectrum by ``1 / (1 + chi2 / (k n))``: without scatter, no round would raise the sum.

    Parameters
    ----------
    sample, grid, num_components, seed
        As for :func:`fit_rounds`.
    robust : float
        Reduced chi-square k from which a spectrum loses influence.
    scatter : float
        Intrinsic scatter in units of the norm, added to the noise where mean and components are fitted. It limits what
        single pixels of bright spectra say.
    num_iterations : int
        Largest number of rounds after those with spare components.
    tolerance : float
        The fit has converged when a round lowers the sum by a smaller share than this.
    importance : Tensor, shape (N,), float32, optional
        Factor of the weight of each spectrum; 1 by default.

    Yields
    ------
    WeightedPCA

    References
    ----------
    .. [1] Lange, Little & Taylor 1989, JASA 84, 881: the likelihood of Student's t by reweighting.
    .. [2] Halko, Martinsson & Tropp 2011, SIAM Review 53, 217: spare directions.
    """
    wide = min(num_components + SPARE, max(len(sample) - 1, num_components)) if num_components else 0
    for fit in fit_rounds(sample, grid, wide, num_iterations=WIDE_ROUNDS[0], seed=seed, importance=importance):
        yield fit.first(num_components)
    for width, most in ((wide, WIDE_ROUNDS[1]), (num_components, num_iterations)):
        start = fit.first(width)
        for fit in _reweighted_rounds(sample, start, robust, scatter, most, tolerance, importance):
            yield fit.first(num_components)


def _reweighted_rounds(
    sample: RestSample,
    model: WeightedPCA,
    robust: float,
    scatter: float,
    num_iterations: int,
    tolerance: float,
    importance: Tensor | None,
) -> Iterator[WeightedPCA]:
    """Yield the fit after each round of a robust fit with as many components as its start."""
    flux, ivar = sample.flux, sample.ivar
    mean, basis = model.mean, model.basis
    weight = (ivar > 0) / (1 / ivar.clamp(min=1e-12) + scatter**2)
    pixel_weight, excess = weight.T, ((flux - 1) * weight).T
    scale = robust * (ivar > 0).sum(dim=1).clamp(min=1)
    before = float("inf")
    for _ in range(num_iterations):
        scores = _solve_scores(flux, ivar, mean, basis).to(flux.dtype)
        chi2 = _misfits(flux, ivar, mean, basis, scores)
        losses, influence = scale * torch.log1p(chi2 / scale), 1 / (1 + chi2 / scale)
        if importance is not None:
            losses, influence = losses * importance, influence * importance
        after = float(losses.double().sum())
        white = _whiten(scores) if len(basis) else scores
        mean, basis = _maximise(pixel_weight, excess, white, 1.0, influence)
        yield WeightedPCA(model.grid, mean, _principal(basis))
        if before - after < tolerance * after:
            return
        before = after


def _maximise(
    pixel_weight: Tensor, excess: Tensor, scores: Tensor, ridge: float, influence: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Solve each pixel's weighted least squares for mean (R,) and components (K, R), given the scores (N, K).

    The influence (N,) multiplies the weights (R, N) of all pixels of a spectrum; 1 by default.
    """
    design = torch.cat([scores.new_ones(len(scores), 1), scores], dim=1)
    size = design.shape[1]
    weighted = design if influence is None else design * influence[:, None]
    normal = _gram(pixel_weight, weighted, design) + ridge * torch.eye(size, dtype=torch.float64, device=scores.device)
    right = (excess @ weighted).double()  # pixels without data get 1, the mean of normalised spectra
    solution = torch.linalg.solve(normal, right[..., None])[..., 0].T.to(scores.dtype).contiguous()
    return 1 + solution[0], solution[1:]


def _solve_scores(flux: Tensor, weight: Tensor, mean: Tensor, basis: Tensor) -> Tensor:
    """Return the most probable scores (N, K) under their unit normal prior."""
    eye = torch.eye(len(basis), dtype=torch.float64, device=flux.device)
    vectors = basis.T.contiguous()
    scores = []
    for start in range(0, len(flux), _BLOCK):
        rows = slice(start, start + _BLOCK)
        right = ((weight[rows] * (flux[rows] - mean)) @ vectors).double()
        scores.append(torch.linalg.solve(_gram(weight[rows], vectors, vectors) + eye, right[..., None])[..., 0])
    return torch.cat(scores)


def _gram(weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return ``sum_p weight[m, p] left[p, i] right[p, j]``, symmetric in i and j: (M, K, K) in float64."""
    size = left.shape[1]
    row, column = torch.triu_indices(size, size, device=left.device)
    half = (weight @ (left[:, row] * right[:, column])).double()
    full = half.new_empty(len(weight), size, size)
    full[:, row, column] = half
    full[:, column, row] = half
    return full


def _misfits(flux: Tensor, weight: Tensor, mean: Tensor, basis: Tensor, scores: Tensor) -> Tensor:
    """Return each spectrum's weighted sum of squares (N,)."""
    sums = []
    for start in range(0, len(flux), _BLOCK):
        rows = slice(start, start + _BLOCK)
        residual = (flux[rows] - mean).addmm_(scores[rows], basis, alpha=-1)
        sums.append(residual.square_().mul_(weight[rows]).sum(dim=1))
    return torch.cat(sums)


def _principal(basis: Tensor) -> Tensor:
    """Turn white scores so that the components (K, R) are orthogonal, the strongest first, with a fixed sign."""
    if not len(basis):
        return basis
    wide = basis.double()
    _, vectors = torch.linalg.eigh(wide @ wide.T)
    turned = (vectors.T.flip(0) @ wide).to(basis.dtype)
    largest = turned.gather(1, turned.abs().argmax(dim=1, keepdim=True))
    return turned * torch.sign(largest)


def _to_rest(batch: SpectraBatch, grid: RestFrame) -> tuple[Tensor, Tensor]:
    """Assign each valid pixel to the nearest rest-frame pixel, and average several on one with their weights."""
    position = grid.position(batch.wavelength_aa, batch.redshift)
    weight = torch.where(grid.covers(position) & (batch.flux.abs() < MAX_FLUX), batch.ivar, 0).float()
    flux = torch.where(weight > 0, batch.flux, 0).float()
    index = position.round().clamp(0, grid.num_pixels - 1).long()
    empty = torch.zeros(len(batch), grid.num_pixels, device=flux.device)
    ivar = empty.scatter_add(1, index, weight)
    total = empty.scatter_add(1, index, weight * flux)
    return torch.where(ivar > 0, total / ivar.clamp(min=torch.finfo(torch.float32).tiny), 0), ivar


def _whiten(scores: Tensor) -> Tensor:
    """Return scores with zero mean, unit variance and no correlation; the next fit of the basis adapts to the scale."""
    centred = scores - scores.mean(dim=0)
    covariance = centred.T @ centred / len(scores)
    eye = torch.eye(len(covariance), dtype=scores.dtype, device=scores.device)
    values, vectors = torch.linalg.eigh(covariance + 1e-12 * eye)
    return centred @ vectors / values.sqrt()
