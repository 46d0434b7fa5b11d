"""Fit what anomaly scores compare with: the neighbourhood of each reference object, and the density of latents."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.families.spectral_vae.anomaly_reference import AnomalyReference, Tail, place_of

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

_Columns = Sequence[np.ndarray]
"""Latents (M, S), reduced chi-square, signal to noise ratio and redshift (M,) of M objects."""

MIN_OBJECTS = 20
"""Smallest number of objects that can be compared with each other."""
MOST_OBJECTS = 20_000
"""Largest number of reference objects; of more, a random choice is kept."""
NEIGHBOURS, FEWEST_NEIGHBOURS, SHARE_OF_NEIGHBOURS = 150, 30, 1 / 8
"""Number of objects of similar signal to noise ratio and redshift whose chi-square is ordinary: 150, or this share of
the objects if that is less, but at least 30."""

_COMPONENTS = (1, 2, 3, 4, 6, 8, 10, 12)
"""Numbers of Gaussian components to try."""
_MOST_FOR_MIXTURE = 10_000
_OBJECTS_PER_COMPONENT = 50
_SMALLEST_SHARE, _FEWEST_MEMBERS = 0.005, 20
"""A component with fewer objects is left out: what is in it is rare, however much its members look alike."""
_NARROWEST = 1e-3
"""Smallest variance of a component, in units of the variance of a latent: none may shrink to a few objects."""
_QUANTILES = 256
_TRUSTED = (0.1, 0.03, 0.01, 0.01)
"""Smallest share of objects from which a tail is counted, in each of several rounds. Farther out too few objects are
left, and unusual ones are a part of them, so the tail is extrapolated. Each round leaves out what scored high in the
round before: the tails are to be those of ordinary objects."""
_FITTED_FROM = 10.0
"""The extrapolation falls as the tail does between the trusted share and this many times as much, at most a half."""
_FOLDS = 10
"""Parts of the reference objects; each part is judged by a fit to the others."""
_CLIPPED_SCORE = 3.0
"""Score from which an object is left out of the next round; one in a thousand ordinary objects is lost."""
_SIGMA_OF_MAD = 1.4826
_CLIP = 3.0
_RIDGE = 0.1
"""Keeps the slopes small where all neighbours are at one place."""
_PLANES_AT_ONCE = 2000
_NARROWEST_SCATTER = 1e-3
_FOREST_MINIMUM = 2


def fit_reference(
    latents: np.ndarray, chi2: np.ndarray, snr: np.ndarray, redshift: np.ndarray, seed: int, *, for_others: bool = False
) -> AnomalyReference | None:
    """Fit a reference to objects most of which are ordinary.

    Parameters
    ----------
    latents : ndarray, shape (N, S)
        Rows that are not finite (rejected spectra) are left out.
    chi2, snr, redshift : ndarray, shape (N,)
        Reduced chi-square of the reconstruction, median signal to noise ratio per pixel, redshift.
    seed : int
        Seed of the choice of objects and of the mixture; the same input and seed give the same reference.
    for_others : bool
        Whether the objects to score are others than these. An object is always more ordinary among objects that include
        it, so false alarms of other objects are then counted with fits that leave out each reference object in turn.

    Returns
    -------
    AnomalyReference or None
        None if fewer than `MIN_OBJECTS` objects can be used.

    References
    ----------
    .. [1] Vovk 2015, Annals of Mathematics and Artificial Intelligence 74, 9, doi:10.1007/s10472-013-9368-4:
       cross-conformal predictors, which are calibrated with the folds that each object was left out of.
    """
    latents = np.asarray(latents, dtype=np.float32)
    chi2, snr, redshift = (np.asarray(column, dtype=np.float64) for column in (chi2, snr, redshift))
    good = np.flatnonzero(np.isfinite(latents).all(axis=1) & np.isfinite([chi2, snr, redshift]).all(axis=0))
    if len(good) < MIN_OBJECTS:
        return None
    if len(good) > MOST_OBJECTS:
        good = np.sort(np.random.default_rng(seed % 2**63).choice(good, MOST_OBJECTS, replace=False))
    latents, chi2, snr, redshift = latents[good], chi2[good], snr[good], redshift[good]
    columns = latents, chi2, snr, redshift
    mixture = _best_mixture(latents, seed, _COMPONENTS)
    found = _without_tails(columns, mixture)
    if not for_others:
        return _with_tails_of_ordinary(found, *_parts(found, columns))
    chi2_tail, density_tail, joint_tail, _ = _tails(*_left_out_parts(columns, mixture.n_components, seed))
    return replace(found, chi2_tail=chi2_tail, density_tail=density_tail, joint_tail=joint_tail)


def _without_tails(columns: _Columns, mixture: GaussianMixture) -> AnomalyReference:
    """Return a reference of latents, chi-square, S/N and redshift, shape (M, ...), whose tails are still empty."""
    latents, chi2, snr, redshift = columns
    place = place_of(snr, redshift)
    scale = np.where(place.std(axis=0) > 0, place.std(axis=0), 1.0).astype(np.float32)
    place = (place / scale).astype(np.float32)
    empty = Tail(np.zeros(1), np.zeros(1), 1.0)
    return AnomalyReference(place, scale, _neighbourhoods(place, chi2), *_arrays_of(mixture, latents), *[empty] * 3)


def _parts(found: AnomalyReference, columns: _Columns) -> tuple[np.ndarray, np.ndarray]:
    """Return what the tails are of, each (N,): chi-square in local sigmas, and minus the log density."""
    latents, chi2, snr, redshift = columns
    return found.local_chi2(chi2, snr, redshift), -found.log_density(latents)


def _left_out_parts(columns: _Columns, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both parts of each object, from a fit with `number` components to the objects of the other folds."""
    fold = np.random.default_rng(seed % 2**63).permutation(len(columns[0])) % _FOLDS
    sigmas, surprise = np.empty(len(fold)), np.empty(len(fold))
    for each in range(_FOLDS):
        fitted, judged = ([column[rows] for column in columns] for rows in (fold != each, fold == each))
        found = _without_tails(fitted, _best_mixture(fitted[0], seed, (number,)))
        sigmas[fold == each], surprise[fold == each] = _parts(found, judged)
    return sigmas, surprise


def _with_tails_of_ordinary(found: AnomalyReference, sigmas: np.ndarray, surprise: np.ndarray) -> AnomalyReference:
    """Return a reference with the tails of its own objects, without those that turn out to be unusual themselves."""
    kept = np.ones(len(sigmas), dtype=bool)
    for trusted in _TRUSTED:
        *tails, score = _tails(sigmas, surprise, trusted, kept)
        kept = score > -_CLIPPED_SCORE * np.log(10.0)
    return replace(found, chi2_tail=tails[0], density_tail=tails[1], joint_tail=tails[2])


def _tails(
    sigmas: np.ndarray, surprise: np.ndarray, trusted: float = _TRUSTED[-1], kept: np.ndarray | slice = slice(None)
) -> tuple[Tail, Tail, Tail, np.ndarray]:
    """Return the tails of both parts and of their sum, of the objects kept, and the log of the latter for all (N,)."""
    tails = fit_tail(sigmas[kept], trusted), fit_tail(surprise[kept], trusted)
    joined = -(tails[0](sigmas) + tails[1](surprise))
    joint = fit_tail(joined[kept], trusted)
    return *tails, joint, joint(joined)


def _neighbourhoods(place: np.ndarray, chi2: np.ndarray) -> np.ndarray:
    """Return what ln(chi-square) is around each object, (M, 4) float32: value, robust standard deviation, two slopes.

    A plane is fitted to the neighbours, because an object at the edge (the brightest) has all of them on one side.
    """
    from scipy.spatial import cKDTree

    log_chi2 = np.log(np.maximum(chi2, np.finfo(np.float32).tiny))
    wanted = max(FEWEST_NEIGHBOURS, int(SHARE_OF_NEIGHBOURS * len(place)))
    number = min(NEIGHBOURS, wanted, len(place))
    tree, found = cKDTree(place), np.empty((len(place), 4), dtype=np.float32)
    for start in range(0, len(place), _PLANES_AT_ONCE):
        here = place[start : start + _PLANES_AT_ONCE]
        index = tree.query(here, k=number)[1]
        near, offset = log_chi2[index], (place[index] - here[:, None]).astype(np.float64)
        middle, sigma = _robust(near)
        clipped = np.clip(near, middle - _CLIP * sigma, middle + _CLIP * sigma)  # unusual neighbours tilt no plane
        design = np.concatenate([np.ones((*near.shape, 1)), offset], axis=2)
        normal = np.einsum("nki,nkj->nij", design, design) + np.diag([0.0, _RIDGE, _RIDGE])
        plane = np.linalg.solve(normal, np.einsum("nki,nk->ni", design, clipped)[..., None])[..., 0]
        rest = near - np.einsum("nki,ni->nk", design, plane)
        shift, sigma = _robust(rest)
        found[start : start + len(here)] = np.column_stack([plane[:, :1] + shift, sigma, plane[:, 1:]])
    found[:, 1] = np.maximum(found[:, 1], _NARROWEST_SCATTER)
    return found


def _robust(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return median and robust standard deviation of each row, (n, 1)."""
    middle = np.median(values, axis=1, keepdims=True)
    return middle, _SIGMA_OF_MAD * np.median(np.abs(values - middle), axis=1, keepdims=True)


def _best_mixture(latents: np.ndarray, seed: int, numbers: Sequence[int]) -> GaussianMixture:
    """Fit Gaussian mixtures to latents in units of their standard deviation; return the one with the lowest BIC.

    References
    ----------
    .. [1] Schwarz 1978, Annals of Statistics 6, 461: the Bayesian information criterion.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture  # the import takes half a second

    rows = _rows_for_mixture(latents, seed)
    best, lowest = None, np.inf
    for number in numbers:
        if best is not None and number > len(rows) // _OBJECTS_PER_COMPONENT:
            break
        mixture = GaussianMixture(number, reg_covar=_NARROWEST, random_state=seed % 2**32, max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture that is nearly converged ranks as well
            mixture.fit(rows)
        if (bic := mixture.bic(rows)) < lowest:
            best, lowest = mixture, bic
    return best


def _rows_for_mixture(latents: np.ndarray, seed: int) -> np.ndarray:
    rows = latents / _latent_scale(latents)
    if len(rows) > _MOST_FOR_MIXTURE:
        rows = rows[np.random.default_rng(seed % 2**63).permutation(len(rows))[:_MOST_FOR_MIXTURE]]
    return rows


def _latent_scale(latents: np.ndarray) -> np.ndarray:
    return np.where(latents.std(axis=0) > 0, latents.std(axis=0), 1.0).astype(np.float64)


def _arrays_of(mixture: GaussianMixture, latents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log weights, means and whitening matrices of a mixture in units of the latents, without rare parts."""
    scale, number = _latent_scale(latents), min(len(latents), _MOST_FOR_MIXTURE)
    smallest = max(_SMALLEST_SHARE, _FEWEST_MEMBERS / number)
    common = mixture.weights_ >= min(smallest, mixture.weights_.max())
    root, weight = mixture.precisions_cholesky_[common], mixture.weights_[common]
    log_volume = np.log(np.abs(np.diagonal(root, axis1=1, axis2=2))).sum(axis=1)
    log_volume -= np.log(scale).sum() + 0.5 * latents.shape[1] * np.log(2 * np.pi)
    return np.log(weight / weight.sum()) + log_volume, mixture.means_[common] * scale, root / scale[None, :, None]


def fit_tail(values: np.ndarray, trusted: float = _TRUSTED[-1]) -> Tail:
    """Return the tail of values, which must be finite, shape (M,); beyond the share `trusted` it is extrapolated."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    number = len(ordered)
    trusted = max(trusted, 2.0 / number)
    start = min(_FITTED_FROM * trusted, 0.5)
    above = np.unique(np.geomspace(max(1.0, trusted * number), number, _QUANTILES).round().astype(np.int64))[::-1]
    value, first = np.unique(ordered[number - above], return_index=True)
    log_p = np.log(above[first] / (number + 1.0))
    far, near = value[-1], float(np.quantile(ordered, 1 - start))
    decline = np.log(start) - log_p[-1]
    scale = (far - near) / decline if far > near and decline > 0 else 1.0
    return Tail(value, log_p, float(scale))


def isolation_scores(latents: np.ndarray, seed: int, num_trees: int = 200) -> np.ndarray:
    """Score objects by the number of random cuts that isolate them.

    Parameters
    ----------
    latents : ndarray, shape (N, S), float32
        Latent means; the forest ignores rows that are not finite (rejected spectra).
    seed : int
        Seed of the forest; the same latents and seed give the same scores.
    num_trees : int
        Number of trees in the forest.

    Returns
    -------
    ndarray, shape (N,), float32
        scikit-learn's ``decision_function``: negative for an anomaly, lower for a more unusual object; NaN in rows that
        are not finite, or in all rows if fewer than two are finite.

    References
    ----------
    .. [1] Liu, Ting & Zhou 2008, Isolation Forest, ICDM, doi:10.1109/ICDM.2008.17. An object with a score near 0 is as
       isolated as a random point. The score of an object depends on the other objects.
    """
    latents = np.asarray(latents, dtype=np.float32)
    scores = np.full(len(latents), np.nan, dtype=np.float32)
    finite = np.isfinite(latents).all(axis=1)
    if finite.sum() < _FOREST_MINIMUM:
        return scores
    from sklearn.ensemble import IsolationForest  # the import takes half a second, and only this function needs it

    forest = IsolationForest(n_estimators=num_trees, random_state=seed % 2**32)
    scores[finite] = forest.fit(latents[finite]).decision_function(latents[finite])
    return scores
