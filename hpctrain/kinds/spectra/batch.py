"""A batch of spectra as the model sees it. N spectra, L pixels.

One rule holds from file to loss: **ivar is the weight of a pixel, and 0 means the pixel does not exist.** The reader,
or :meth:`SpectraBatch.clean` on the device, sets ivar to 0 for every fault of a pixel (mask bit, padding, NaN, negative
variance). So later code does not need to know the reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

REJECTED = -1
"""Value of `SpectraBatch.window` if no window gave a usable normalisation."""


@dataclass(frozen=True)
class SpectraBatch:
    """Some spectra with their metadata; transforms return a new batch.

    Parameters
    ----------
    flux : Tensor, shape (N, L), float32, or float16 until it is cleaned
        Flux density, unit of the file (1e-17 erg s-1 cm-2 AA-1 by convention); in units of `norm` after
        :func:`~hpctrain.kinds.spectra.transform.normalise`. Finite after cleaning. Where `ivar` is 0 it has no
        meaning (a cosmic ray may be left there), and it is 0 there after normalisation.
    ivar : Tensor, shape (N, L), float32, or float16 until it is cleaned
        Inverse variance of `flux`; 0 masks the pixel. Never NaN or negative after cleaning.
    wavelength_aa : Tensor, shape (L,) or (N, L), float32
        Observed vacuum wavelength [AA], strictly increasing.
    redshift : Tensor, shape (N,), float32
        Redshift, always finite. A row whose catalogue redshift was not finite has `ivar` 0 everywhere, or for a model
        that needs no redshift, the value 0.
    target_id : Tensor, shape (N,), int64
        Identifier of the object; -1 in padding rows.
    row : Tensor, shape (N,), int64
        Row in the whole set; -1 is a padding row, which has `ivar` 0 everywhere.
    norm : Tensor, shape (N,), float32, optional
        Divisor of the flux; 1 where the spectrum was rejected.
    window : Tensor, shape (N,), int8, optional
        Index of the normalisation window; -1 where the spectrum was rejected.
    visible : Tensor, shape (N, L), bool, optional
        Pixels that the encoder may read; None means all.
    num_bad : Tensor, shape (N,), int32, optional
        Number of pixels of each spectrum whose weight cleaning set to 0.
    has_weight : Tensor, shape (N,), bool, optional
        Whether any pixel of a spectrum has weight after cleaning; normalisation may still reject it.
    labels : mapping of str to Tensor, shape (N,)
        What the family asked the files for, such as classes to learn; -1 or NaN where there is none.
    """

    flux: Tensor
    ivar: Tensor
    wavelength_aa: Tensor
    redshift: Tensor
    target_id: Tensor
    row: Tensor
    norm: Tensor | None = None
    window: Tensor | None = None
    visible: Tensor | None = None
    num_bad: Tensor | None = None
    has_weight: Tensor | None = None
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.flux.shape[0]

    @property
    def num_pixels(self) -> int:
        """L."""
        return self.flux.shape[1]

    @property
    def used(self) -> Tensor:
        """Rows with at least one valid pixel, shape (N,), bool."""
        return (self.ivar > 0).any(dim=1)

    def replace(self, **changes: Tensor | None) -> SpectraBatch:
        """Return a batch in which the named tensors are replaced."""
        return replace(self, **changes)

    def clean(self) -> SpectraBatch:
        """Return float32 with finite flux, and ivar 0 where it was negative or one of the two was not finite."""
        flux, ivar = self.flux.float(), self.ivar.float()
        if flux.device.type == "cpu" and _is_clean(flux, ivar):
            num_bad = torch.zeros(len(self), dtype=torch.int32)
            return self.replace(flux=flux, ivar=ivar, num_bad=num_bad, has_weight=ivar.amax(dim=1) > 0)
        finite = torch.isfinite(flux)
        good = finite & (ivar > 0) & (ivar < math.inf)  # NaN is neither
        return self.replace(
            flux=torch.where(finite, flux, 0.0),
            ivar=torch.where(good, ivar, 0.0),
            num_bad=((ivar != 0) & ~good).sum(dim=1, dtype=torch.int32),
            has_weight=good.any(dim=1),
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SpectraBatch:
        """Return the batch on `device`; a copy from pinned memory may overlap with computing."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> SpectraBatch:
        """Return the batch in page-locked host memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def everything(self) -> list[Tensor]:
        """Return all tensors of the batch."""
        return [tensor for tensor in self._tensors().values() if tensor is not None] + list(self.labels.values())

    def tensors(self) -> dict[str, Tensor]:
        """Return flux, ivar and redshift, which a network reads; and the wavelengths, where each row has its own."""
        own_grid = {"wavelength_aa": self.wavelength_aa} if self.wavelength_aa.dim() == 2 else {}
        return {"flux": self.flux, "ivar": self.ivar, "redshift": self.redshift, **own_grid}

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> SpectraBatch:
        """Return a batch in which these tensors are replaced."""
        return replace(self, **tensors)

    def _each(self, change) -> SpectraBatch:
        tensors = {name: tensor if tensor is None else change(tensor) for name, tensor in self._tensors().items()}
        return SpectraBatch(**tensors, labels={name: change(values) for name, values in self.labels.items()})

    def _tensors(self) -> dict[str, Tensor | None]:
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "labels"}


def _is_clean(flux: Tensor, ivar: Tensor) -> bool:
    """Return whether surely nothing needs to be cleaned, in one pass over each array.

    A product of anything with NaN or infinity is not finite, and neither is a sum with such a term.
    """
    if not ivar.numel():
        return False
    # Finding the minimum is sixteen times faster than comparing each value with 0; it is NaN if one value is.
    return math.isfinite(torch.dot(flux.reshape(-1), ivar.reshape(-1)).item()) and ivar.amin().item() >= 0
