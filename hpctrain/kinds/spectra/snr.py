"""Signal to noise ratio of a spectrum, for tensors and for arrays. N spectra, L pixels. No torch here.

Of an even number of pixels both take the lower of the two in the middle, so that they agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def signal_to_noise(flux: Tensor, ivar: Tensor) -> Tensor:
    """Return the median signal to noise ratio of the valid pixels of each spectrum.

    Parameters
    ----------
    flux, ivar : Tensor, shape (N, L)
        Flux, and inverse variance in the matching unit; 0 masks the pixel for any value of `flux`.

    Returns
    -------
    Tensor, shape (N,), float32
        NaN where no pixel is valid.

    Examples
    --------
    >>> signal_to_noise(torch.tensor([[1.0, 2.0, 1e30, 3.0]]), torch.tensor([[1.0, 4.0, 0.0, 4.0]]))
    tensor([4.])
    """
    ratio = flux.float() * ivar.clamp(min=0).float().sqrt()
    ratio = ratio.masked_fill(~(ivar > 0), float("nan"))
    if not ratio.is_cuda:
        return ratio.nanmedian(dim=1).values
    # On a GPU, torch warns of nanmedian: which of two equal values it finds differs. Sorting puts NaN last.
    middle = ((~ratio.isnan()).sum(dim=1, keepdim=True) - 1).clamp(min=0) // 2
    return ratio.sort(dim=1).values.gather(1, middle).squeeze(1)


def signal_to_noise_of_arrays(flux: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """Return what :func:`signal_to_noise` returns, for arrays and without torch, shape (N,), float32."""
    found = np.full(len(flux), np.nan, dtype=np.float32)
    for row, valid in enumerate(ivar > 0):
        if valid.any():
            ratio = np.sort(flux[row, valid] * np.sqrt(ivar[row, valid]))
            found[row] = ratio[(len(ratio) - 1) // 2]
    return found
