"""Weighted least squares of many small problems at once. N spectra, L pixels, S latents.

Every function is a fixed chain of products and sums in float32, without branches and without a solver of LAPACK, so
that ONNX Runtime and TensorRT compute the same as PyTorch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def posterior(design: Tensor, residual: Tensor, weight: Tensor, prior: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the most probable coefficients and their errors, under a unit normal prior.

    Parameters
    ----------
    design : Tensor, shape (N, L, S), float32
        Change of each pixel with each coefficient.
    residual : Tensor, shape (N, L), float32
        Flux minus the model whose coefficients are 0; finite where `weight` is not 0.
    weight : Tensor, shape (N, L), float32
        Inverse variance; 0 masks a pixel.
    prior : Tensor, shape (N, S), float32, optional
        Mean of the prior; 0 by default.

    Returns
    -------
    coefficients, errors : Tensor, shape (N, S), float32
        Mean of the posterior, and the square root of the diagonal of its covariance.

    References
    ----------
    .. [1] Tipping & Bishop 1999, J. R. Stat. Soc. B 61, 611, eq. 6: posterior of the scores of a linear model.
    """
    root = weight.sqrt()
    scaled = design * root[..., None]
    # Weight before multiplying: a masked pixel may hold a value whose square is infinite.
    data = torch.where(weight > 0, residual, 0) * root
    normal = scaled.transpose(1, 2) @ scaled + torch.eye(design.shape[2], device=design.device)
    right = (scaled.transpose(1, 2) @ data[..., None])[..., 0]
    if prior is not None:
        right = right + prior
    inverse = invert(normal)
    return (inverse @ right[..., None])[..., 0], inverse.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()


def invert(normal: Tensor) -> Tensor:
    """Invert symmetric positive definite matrices (N, S, S) by sweeping one row and column after the other.

    The matrices are scaled to a unit diagonal first: the pivots are then between 0 and 1, where float32 is precise.

    References
    ----------
    .. [1] Goodnight 1979, The American Statistician 33, 149: the sweep operator.
    """
    scale = normal.diagonal(dim1=1, dim2=2).rsqrt()
    swept = normal * scale[:, :, None] * scale[:, None, :]
    units = torch.eye(normal.shape[1], dtype=normal.dtype, device=normal.device)
    corners = 2 * units[:, :, None] * units[:, None, :]
    for index, (unit, corner) in enumerate(zip(units.unbind(), corners.unbind(), strict=True)):
        column = swept[:, :, index]
        pivot = column[:, index, None, None].clamp(min=1e-7)
        change = column - unit
        swept = swept - change[:, :, None] * change[:, None, :] / pivot - corner
    return -swept * scale[:, :, None] * scale[:, None, :]
