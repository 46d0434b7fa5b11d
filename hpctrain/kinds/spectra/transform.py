"""Transforms of a batch, as tensor operations on its device. N spectra, L pixels.

Flux and ivar always change together so that ``ivar * (flux - model)^2`` keeps its meaning, and a masked pixel never
affects an unmasked one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hpctrain.kinds.spectra.batch import REJECTED, SpectraBatch

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.section import (
        AugmentSection,
        NormaliseSection,
        ObservedAugmentSection,
        ObservedNormaliseSection,
    )

MASK_BLOCKS = 64
"""Number of pieces of a spectrum of which some are hidden; for DESI about 120 pixels each, wider than a broad line."""


def normalise(batch: SpectraBatch, section: NormaliseSection) -> SpectraBatch:
    """Divide each spectrum by its median flux in a rest-frame window.

    The first window that is wholly within the observed range at the redshift of the spectrum is used. Spectra without
    such a window, or whose norm is not positive or not significant, are rejected before the division: they get flux and
    ivar 0, norm 1, window -1.

    Parameters
    ----------
    batch : SpectraBatch
        Batch in the units of the file; it is cleaned first.
    section : NormaliseSection
        The windows and the lowest signal to noise ratio.

    Returns
    -------
    SpectraBatch
        Flux divided by the norm N, ivar multiplied by N^2, with `norm` and `window`.

    Notes
    -----
    The signal to noise ratio is the one of the norm itself: N over the error of the median,
    ``sqrt(pi / (2 sum(ivar)))`` over the valid pixels of the window (exact for equal errors; SpenderQ's cut of 2).

    References
    ----------
    .. [1] Melchior et al. 2023, arXiv:2211.07890 (5300-5850 AA). SpenderQ, arXiv:2506.18986 (windows for quasars).
    """
    batch = batch.clean()
    low, high, window = _choose_window(batch, section.windows_aa)
    flux, valid, ivar = _cut_out(batch, low, high)
    median, snr = _significant_median(flux, valid, ivar)
    good = (window != REJECTED) & torch.isfinite(median) & (median > 0) & (snr >= section.min_snr)
    return _divided(batch, median, good, window)


def normalise_observed(batch: SpectraBatch, section: ObservedNormaliseSection) -> SpectraBatch:
    """Divide each spectrum by the median flux of its valid pixels, which needs no redshift.

    Parameters
    ----------
    batch : SpectraBatch
        Batch in the units of the file; it is cleaned first.
    section : ObservedNormaliseSection
        The observed windows whose pixels count, and the lowest signal to noise ratio.

    Returns
    -------
    SpectraBatch
        As of :func:`normalise`; `window` is 0 where the spectrum was accepted.
    """
    batch = batch.clean()
    valid = batch.ivar > 0
    window = torch.zeros(len(batch), dtype=torch.int64, device=batch.flux.device)
    if section.by == "none":
        return _divided(batch, torch.ones_like(batch.flux[:, 0]), valid.any(dim=1), window)
    if section.windows_aa is not None:
        edges = batch.flux.new_tensor(section.windows_aa)
        inside = (batch.wavelength_aa[..., None] >= edges[:, 0]) & (batch.wavelength_aa[..., None] <= edges[:, 1])
        valid = valid & inside.any(dim=-1)
    median, snr = _significant_median(batch.flux, valid, batch.ivar)
    good = torch.isfinite(median) & (median > 0) & (snr >= section.min_snr)
    return _divided(batch, median, good, window)


def _significant_median(flux: Tensor, valid: Tensor, ivar: Tensor) -> tuple[Tensor, Tensor]:
    """Return the median of the valid pixels of each row, and its signal to noise ratio, shape (N,) each."""
    median = _masked_median(flux, valid)
    # float64, because the sum of weights in cgs units (1e35) overflows float32
    error = torch.sqrt(math.pi / 2.0 / torch.where(valid, ivar, 0.0).sum(dim=1, dtype=torch.float64))
    return median, median.double() / error


def _divided(batch: SpectraBatch, norm: Tensor, good: Tensor, window: Tensor) -> SpectraBatch:
    """Divide the good rows of a clean batch by `norm` (N,), and take the weight of the others away."""
    norm = torch.where(good, norm, 1.0)
    weight = good[:, None] & (batch.ivar > 0)
    return batch.replace(
        flux=torch.where(weight, batch.flux / norm[:, None], 0.0),
        ivar=torch.where(weight, batch.ivar * norm[:, None] * norm[:, None], 0.0),
        norm=norm,
        window=torch.where(good, window, REJECTED).to(torch.int8),
    )


def _choose_window(batch: SpectraBatch, windows_aa: list[tuple[float, float]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the observed edges [AA] and the index of each spectrum's window, shape (N,) each."""
    stretch = 1.0 + batch.redshift
    wavelength = batch.wavelength_aa
    first, last = wavelength[..., 0], wavelength[..., -1]
    window = torch.full_like(batch.redshift, REJECTED, dtype=torch.int64)
    low, high = torch.zeros_like(stretch), torch.zeros_like(stretch)
    for index in reversed(range(len(windows_aa))):  # the first window that fits is written last
        lower, upper = windows_aa[index][0] * stretch, windows_aa[index][1] * stretch
        inside = (lower >= first) & (upper <= last)
        window = torch.where(inside, index, window)
        low, high = torch.where(inside, lower, low), torch.where(inside, upper, high)
    return low, high, window


def _cut_out(batch: SpectraBatch, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return flux, validity and ivar of the pixels from `low` to `high`, shape (N, W); W fits the widest window."""
    start = _first_pixel_from(batch.wavelength_aa, low)
    count = _first_pixel_from(batch.wavelength_aa, high) - start
    # Computing W makes the host wait for the device; using all pixels is faster there.
    width = batch.num_pixels if batch.flux.is_cuda else max(1, int(count.max())) if len(batch) else 1
    offset = torch.arange(width, device=batch.flux.device)
    pixel = (start[:, None] + offset).clamp(max=batch.num_pixels - 1)
    flux, ivar = batch.flux.gather(1, pixel), batch.ivar.gather(1, pixel)
    return flux, (offset < count[:, None]) & (ivar > 0), ivar


def _first_pixel_from(wavelength_aa: Tensor, bound: Tensor) -> Tensor:
    """Return the first pixel at or beyond `bound` (N,), shape (N,)."""
    if wavelength_aa.ndim == 1:
        return torch.searchsorted(wavelength_aa, bound)
    return torch.searchsorted(wavelength_aa.contiguous(), bound[:, None].contiguous())[:, 0]


def _masked_median(values: Tensor, valid: Tensor) -> Tensor:
    """Return the median of the valid values of each row, shape (N,); NaN where there are none."""
    ordered = torch.where(valid, values, math.inf).sort(dim=1).values
    count = valid.sum(dim=1, keepdim=True)
    below = ordered.gather(1, ((count - 1) // 2).clamp(min=0))
    above = ordered.gather(1, (count // 2).clamp(max=values.shape[1] - 1))
    return torch.where(count > 0, 0.5 * (below + above), math.nan)[:, 0]


def augment(batch: SpectraBatch, section: AugmentSection | ObservedAugmentSection) -> SpectraBatch:
    """Change the spectra at random; draws from torch's global generator of the device the batch is on.

    Parameters
    ----------
    batch : SpectraBatch
        Batch, normalised or not.
    section : AugmentSection or ObservedAugmentSection
        Augmentations to apply; the order is redshift shift, noise, hidden pixels.

    Returns
    -------
    SpectraBatch
    """
    if section.redshift_shift > 0:
        batch = _shift_redshift(batch, section.redshift_shift)
    if section.noise > 0:
        sigma = torch.where(batch.ivar > 0, batch.ivar, 1.0).rsqrt() * (batch.ivar > 0)
        batch = batch.replace(
            flux=batch.flux + section.noise * sigma * torch.randn_like(batch.flux),
            ivar=batch.ivar / (1.0 + section.noise**2),
        )
    if section.mask_fraction > 0:
        batch = batch.replace(visible=_hide_blocks(batch, section.mask_fraction))
    return batch


def _shift_redshift(batch: SpectraBatch, largest: float) -> SpectraBatch:
    """Move each spectrum to another redshift on the same observed grid.

    Flux per pixel is kept rather than scaled by the stretch, so a normalised spectrum stays normalised. A new pixel is
    interpolated between two old ones, with the variance of that sum; it has no weight where one of the two has none.
    """
    shift = largest * (2.0 * torch.rand_like(batch.redshift) - 1.0)
    # Not below z = 0, where the rest frame would leave the range of the decoder.
    redshift = torch.maximum(batch.redshift + shift, batch.redshift.clamp(max=0.0))
    stretch = (1.0 + batch.redshift.double()) / (1.0 + redshift.double())
    grid = batch.wavelength_aa.double()
    source = grid * stretch[:, None]
    grid = grid.expand(source.shape).contiguous()
    left = (torch.searchsorted(grid, source, right=True) - 1).clamp(0, batch.num_pixels - 2)
    below, above = grid.gather(1, left), grid.gather(1, left + 1)
    part = ((source - below) / (above - below)).float()
    inside = (part >= 0) & (part <= 1)
    part = part.clamp(0, 1)
    flux_left, flux_right = batch.flux.gather(1, left), batch.flux.gather(1, left + 1)
    ivar_left, ivar_right = batch.ivar.gather(1, left), batch.ivar.gather(1, left + 1)
    both = (ivar_left > 0) & (ivar_right > 0)
    variance = (1 - part) ** 2 / torch.where(both, ivar_left, 1.0) + part**2 / torch.where(both, ivar_right, 1.0)
    ivar = torch.where(both, 1.0 / variance, 0.0)
    # A new pixel exactly on an old one needs no neighbour, and a shift of 0 must not change a bit.
    ivar = torch.where(part == 0, ivar_left, torch.where(part == 1, ivar_right, ivar))
    flux = torch.where(
        part == 0, flux_left, torch.where(part == 1, flux_right, torch.lerp(flux_left, flux_right, part))
    )
    ivar = torch.where(inside, ivar, 0.0)
    return batch.replace(flux=torch.where(ivar > 0, flux, 0.0), ivar=ivar, redshift=redshift)


def _hide_blocks(batch: SpectraBatch, fraction: float) -> Tensor:
    """Return which pixels the encoder may read: all except some of `MASK_BLOCKS` blocks, which have random borders."""
    num_hidden = max(1, round(fraction * MASK_BLOCKS))
    device = batch.flux.device
    rank = torch.rand(len(batch), MASK_BLOCKS, device=device).argsort(dim=1).argsort(dim=1)
    offset = torch.rand(len(batch), 1, device=device)
    place = torch.arange(batch.num_pixels, device=device) / batch.num_pixels
    block = (((place + offset) % 1.0) * MASK_BLOCKS).long().clamp(max=MASK_BLOCKS - 1)
    return rank.gather(1, block) >= num_hidden


def to_rest_frame(batch: SpectraBatch) -> SpectraBatch:
    """Relabel the pixels with their rest wavelength: nothing is resampled, and flux times wavelength is conserved.

    Returns
    -------
    SpectraBatch
        `wavelength_aa` (N, L) divided by 1 + z, flux multiplied by it, and ivar divided by its square. The redshift of
        the original spectrum is kept.
    """
    stretch = (1.0 + batch.redshift)[:, None]
    return batch.replace(
        wavelength_aa=batch.wavelength_aa / stretch,
        flux=batch.flux * stretch,
        ivar=batch.ivar / stretch**2,
    )
