"""Goodness of fit of one spectrum, for tensors and for arrays. N spectra, L pixels. No torch here.

The denominator counts pixels and does not subtract parameters. It is the same for every model on the same spectrum, so
that models can be compared. For a test of fit, subtract the number of latents from the number of pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def reduced_chi2(flux: Tensor, reconstruction: Tensor, ivar: Tensor, covered: Tensor | None = None) -> Tensor:
    """Return the chi-square of each spectrum divided by the number of its valid pixels.

    Parameters
    ----------
    flux, reconstruction : Tensor, shape (N, L)
        Data and model, in one unit.
    ivar : Tensor, shape (N, L)
        Inverse variance of `flux`; 0 masks the pixel for any value of `flux`.
    covered : Tensor, shape (N, L), bool, optional
        Pixels that the model covers; all by default.

    Returns
    -------
    Tensor, shape (N,), float32
        1 on average for a perfect model and correct `ivar`; NaN where no pixel is valid.

    Examples
    --------
    >>> flux = torch.tensor([[1.0, 2.0, 1e30]])
    >>> reduced_chi2(flux, torch.ones(1, 3), torch.tensor([[1.0, 4.0, 0.0]]))
    tensor([2.])
    """
    masked = ~(ivar > 0) if covered is None else ~((ivar > 0) & covered)
    weight = ivar.masked_fill(masked, 0).double().sqrt()  # weight before squaring: 1e30 squared is infinite
    residual = (flux - reconstruction).masked_fill(masked, 0).double() * weight
    count = (~masked).sum(dim=1)
    chi2 = residual.square().sum(dim=1) / count.clamp(min=1)
    return chi2.masked_fill(count == 0, float("nan")).float()


def reduced_chi2_of_arrays(
    flux: np.ndarray, reconstruction: np.ndarray, ivar: np.ndarray, covered: np.ndarray | None = None
) -> np.ndarray:
    """Return what :func:`reduced_chi2` returns, for arrays and without torch.

    Parameters
    ----------
    flux, reconstruction, ivar : ndarray, shape (..., L)
    covered : ndarray, shape (..., L), bool, optional

    Returns
    -------
    ndarray, shape (...), float32

    Examples
    --------
    >>> reduced_chi2_of_arrays(np.array([1.0, 2.0, 1e30]), np.ones(3), np.array([1.0, 4.0, 0.0]))
    np.float32(2.0)
    """
    valid = ivar > 0 if covered is None else (ivar > 0) & covered
    weight = np.sqrt(np.where(valid, ivar, 0).astype(np.float64))
    with np.errstate(invalid="ignore", over="ignore"):  # masked pixels may hold anything
        residual = np.where(valid, flux - reconstruction, 0) * weight
    count = valid.sum(axis=-1)
    chi2 = np.square(residual).sum(axis=-1) / np.maximum(count, 1)
    return np.where(count > 0, chi2, np.nan).astype(np.float32)[()]
