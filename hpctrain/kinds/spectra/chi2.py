"""Goodness of fit of one spectrum. N spectra, L pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def reduced_chi2(flux: Tensor, reconstruction: Tensor, ivar: Tensor, covered: Tensor | None = None) -> Tensor:
    """Return the chi-square of each spectrum divided by the number of its valid pixels.

    The denominator counts pixels and does not subtract parameters. It is the same for every model on the same spectrum,
    so that models can be compared. For a test of fit, subtract S from the number of pixels.

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
    valid = ivar > 0 if covered is None else (ivar > 0) & covered
    weight = torch.where(valid, ivar, 0).double().sqrt()  # weight before squaring: 1e30 squared is infinite
    residual = torch.where(valid, flux - reconstruction, 0).double() * weight
    count = valid.sum(dim=1)
    chi2 = residual.square().sum(dim=1) / count.clamp(min=1)
    return torch.where(count > 0, chi2, torch.nan).float()
