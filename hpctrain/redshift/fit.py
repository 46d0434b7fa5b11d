"""The best model of each spectrum at its redshift, pixel by pixel. N spectra, L pixels, K components, D polynomials."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.redshift.search import coefficient_penalty, polynomials
from hpctrain.redshift.templates import Template
from hpctrain.redshift.zwarn import OUTLIER_SIGMA

ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Fit:
    """Coefficients and residuals of the best models.

    Parameters
    ----------
    coefficients : Tensor, shape (N, 1 + K + D), float64
        Of the mean spectrum, the components, and the polynomials, in the unit of the flux.
    chi2 : Tensor, shape (N,), float64
        Over the pixels with weight, without the penalty of the prior.
    outliers : Tensor, shape (N,), float64
        Share of the pixels with weight that are far from the model.
    is_negative : Tensor, shape (N,), bool
        Whether the mean of the model over the pixels with weight is negative.
    """

    coefficients: Tensor
    chi2: Tensor
    outliers: Tensor
    is_negative: Tensor


def fit_at(batch: SpectraBatch, log_redshift: Tensor, template: Template, step: float) -> Fit:
    """Fit the template of one class to spectra at known redshifts.

    Parameters
    ----------
    batch : SpectraBatch
        Cleaned spectra.
    log_redshift : Tensor, shape (N,), float64
        ln(1 + z).
    template : Template
    step : float
        Step of the template in ln wavelength.
    """
    basis = torch.from_numpy(template.basis).to(batch.flux.device)
    wavelength = torch.log(batch.wavelength_aa.double().clamp(min=1e-3)).expand(batch.flux.shape)
    parts = []
    for start in range(0, len(batch), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        position = (wavelength[rows] - log_redshift[rows, None]) / step - template.first
        model = torch.cat([interpolate(basis, position), polynomials(wavelength[rows]).transpose(0, 1)], dim=1)
        parts.append(_fit(batch.flux[rows].double(), batch.ivar[rows].double(), model, len(basis)))
    return Fit(*(torch.cat(values) for values in zip(*parts, strict=True)))


def interpolate(basis: Tensor, position: Tensor) -> Tensor:
    """Interpolate curves linearly; beyond their ends they keep the last value.

    Parameters
    ----------
    basis : Tensor, shape (1 + K, R)
        Curves.
    position : Tensor, shape (N, L)
        Positions in pixels of the curves.

    Returns
    -------
    Tensor, shape (N, 1 + K, L)
    """
    position = position.clamp(0, basis.shape[1] - 1)
    left = position.floor().clamp(max=max(0, basis.shape[1] - 2)).long()
    part = (position - left)[:, None]
    below = basis[:, left].transpose(0, 1)
    above = basis[:, (left + 1).clamp(max=basis.shape[1] - 1)].transpose(0, 1)
    return below + part * (above - below)


def _fit(flux: Tensor, ivar: Tensor, model: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    flux = torch.where(ivar > 0, flux, 0)
    weighted = model * ivar[:, None]
    normal = weighted @ model.transpose(1, 2)
    right = (weighted @ flux[..., None])[..., 0]
    penalty = coefficient_penalty(normal[:, 0, 0], right[:, 0], size)
    normal = normal + torch.diag_embed(torch.stack(penalty, dim=1))
    # Scaled to a unit diagonal, a matrix without information becomes the unit matrix.
    scale = torch.where(normal.diagonal(dim1=1, dim2=2) > 0, normal.diagonal(dim1=1, dim2=2), 1).rsqrt()
    scaled = normal * scale[:, :, None] * scale[:, None]
    ridge = 1e-12 * torch.eye(scaled.shape[1], dtype=scaled.dtype, device=scaled.device)
    empty = (ivar.sum(dim=1) == 0)[:, None, None]
    scaled = torch.where(empty, torch.eye(scaled.shape[1], dtype=scaled.dtype, device=scaled.device), scaled + ridge)
    coefficients = torch.linalg.solve(scaled, (right * scale)[..., None])[..., 0] * scale
    best = (coefficients[:, None] @ model)[:, 0]
    residual = (flux - best) * ivar.sqrt()
    count = (ivar > 0).sum(dim=1).clamp(min=1)
    outliers = (residual.abs() > OUTLIER_SIGMA).sum(dim=1) / count
    is_negative = torch.where(ivar > 0, best, 0).sum(dim=1) < 0
    return coefficients, residual.square().sum(dim=1), outliers.double(), is_negative
