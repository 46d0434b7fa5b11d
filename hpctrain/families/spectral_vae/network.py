"""A variational autoencoder of spectra: ivar-aware encoder, rest-frame decoder, explicit redshift between them.

Legend: N spectra, L observed pixels, R rest-frame pixels, S latents.

::

    flux, ivar, visible, redshift -> encoder -> mean, log variance (S) -> draw -> decoder -> rest frame (R)
                                                                                                │ (1 + z), resampled
    loss = robust(sum ivar (flux - reconstruction)^2) / 2 + beta KL  <───────────────── observed pixels (L)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpctrain.errors import Problem, ProfileError
from hpctrain.families.blocks.spectra import bin_channels
from hpctrain.families.spectral_vae.choices import CONVOLUTIONAL, LEAST_SQUARES, PCA
from hpctrain.families.spectral_vae.decoder import SpectrumDecoder
from hpctrain.families.spectral_vae.encoder import NUM_BINS, SpectrumEncoder
from hpctrain.families.spectral_vae.least_squares import posterior
from hpctrain.families.spectral_vae.least_squares_encoder import LeastSquaresEncoder
from hpctrain.kinds.spectra.chi2 import reduced_chi2
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.rest_grid import RestGrid

if TYPE_CHECKING:
    from hpctrain.families.spectral_vae.section import SpectralVAESection
    from hpctrain.kinds.spectra.batch import SpectraBatch

COARSE_PIXEL_AA = 2.0
"""Mean width of an observed pixel [AA] from which the rest grid has two pixels for each: linear interpolation between
pixels as wide as a narrow line cannot carry the place of the line."""

STEP_LENGTHS = (1.0, 0.25)
"""Shares of a Gauss-Newton step that are tried."""


class SpectralVAE(nn.Module):
    """The network of ``model.family: spectral_vae``.

    Parameters
    ----------
    section : SpectralVAESection
        The profile's ``model`` section.
    facts : SpectraFacts
        Observed grid and redshift range; together with `section` they determine the shape of every weight.

    Raises
    ------
    ProfileError
        The section's lists do not fit together.

    References
    ----------
    .. [1] Kingma & Welling 2014, arXiv:1312.6114: variational autoencoder, reparametrised gradient, KL term.
    .. [2] Rezende, Mohamed & Wierstra 2014, arXiv:1401.4082.
    .. [3] Melchior et al. 2023, AJ 166, 74, arXiv:2211.07890: spender; attention encoder, rest-frame decoder,
       redshift applied explicitly, ivar-weighted likelihood.
    .. [4] Portillo et al. 2020, AJ 160, 45, arXiv:2002.10464: variational autoencoders of SDSS spectra.
    .. [5] Higgins et al. 2017, ICLR: the factor beta in front of the KL term.
    .. [6] Bailey 2012, PASP 124, 1015, arXiv:1208.4122: weighted PCA, from which decoder and encoder start.
    .. [7] Lange, Little & Taylor 1989, JASA 84, 881: robust likelihood of Student's t.
    """

    def __init__(self, section: SpectralVAESection, facts: SpectraFacts) -> None:
        super().__init__()
        _check_section(section)
        self.facts = facts
        self.beta = float(section.beta)
        self.beta_warmup_steps = int(section.beta_warmup_steps)
        self.robust = section.robust
        self.num_refinements = int(section.refine)
        self.grid = RestGrid.for_data(facts, *rest_extent(section, facts))
        self.encoder: SpectrumEncoder | LeastSquaresEncoder
        if section.encoder == CONVOLUTIONAL:
            self.encoder = SpectrumEncoder(
                section.latent_size,
                section.encoder_channels,
                section.encoder_kernels,
                section.encoder_hidden,
                section.dropout,
            )
        else:
            self.encoder = LeastSquaresEncoder(section.latent_size, section.encoder_hidden, section.dropout)
        self.decoder = SpectrumDecoder(
            section.latent_size,
            section.decoder_hidden,
            self.grid.num_pixels,
            section.dropout,
            linear=section.start == PCA,
        )

    def enable_gradient_checkpointing(self) -> None:
        """Recompute the convolutions in the backward pass instead of keeping their outputs; others keep little."""
        if isinstance(self.encoder, SpectrumEncoder):
            self.encoder.gradient_checkpointing = True

    @property
    def weight_per_sample(self) -> float:
        """About how much one spectrum adds to ``weight_sum``: its number of pixels."""
        return float(self.facts.num_pixels)

    def predict(self, batch: SpectraBatch) -> dict[str, Tensor]:
        """Return latents ``LATENT_VEC`` (N, S) and reduced chi-square ``RECON_MSE`` (N,) of normalised spectra."""
        mean, reconstruction, covered = self.describe(batch)
        return {"LATENT_VEC": mean, "RECON_MSE": reduced_chi2(batch.flux, reconstruction, batch.ivar, covered)}

    def beta_at(self, step: int) -> float:
        """Return the weight of the KL term at a step: it rises linearly from 0 to ``model.beta`` during its warm-up."""
        if self.beta_warmup_steps == 0:
            return self.beta
        return self.beta * min(1.0, step / self.beta_warmup_steps)

    def forward(self, batch: SpectraBatch, step: int = 0) -> dict[str, Tensor]:
        """Return the sums that make up the loss.

        The negative evidence lower bound of a Gaussian likelihood with known variances is, up to a constant,
        ``chi2 / 2 + KL(q(latents) || N(0, 1))`` with ``chi2 = sum ivar (flux - reconstruction)^2``. With ``robust: k``,
        a spectrum of n pixels counts as ``k n log(1 + chi2 / (k n))`` instead of ``chi2``: the likelihood of noise
        whose variance is not known exactly (Student's t), so that no bright spectrum dominates. The method returns
        sums rather than means, so that a batch on several ranks and micro-batches has one loss: ``loss_sum /
        weight_sum`` of all.

        Parameters
        ----------
        batch : SpectraBatch
            Normalised spectra. Rows without a valid pixel (padding, rejected) add exactly 0 to every sum.
        step : int
            Step, which determines the warm-up of beta.

        Returns
        -------
        dict of Tensor, shape (), float32
            ``loss_sum``; ``weight_sum``, the number of valid pixels on the rest grid; ``chi2_sum``; ``kl_sum`` [nat];
            ``num_samples``, the number of spectra with a valid pixel.
        """
        position = self.grid.position(batch.wavelength_aa, batch.redshift)
        mean, log_variance = self._encode(batch, position)
        latents = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        reconstruction = self._decode(latents, self.grid.place(position))
        with torch.autocast(mean.device.type, enabled=False):
            valid = (batch.ivar > 0) & self.grid.covers(position)
            # Multiply by the weight before squaring: a masked pixel may hold 1e30, whose square is infinite.
            weight = torch.where(valid, batch.ivar, 0).float().sqrt()
            residual = (torch.where(valid, batch.flux, 0).float() - reconstruction) * weight
            chi2_sum = residual.square().sum()
            misfit = chi2_sum
            if self.robust is not None:
                scale = self.robust * valid.sum(dim=1).clamp(min=1)
                misfit = (scale * torch.log1p(residual.square().sum(dim=1) / scale)).sum()
            active = valid.any(dim=1)
            kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1)
            kl_sum = torch.where(active, kl, 0).sum()
            return {
                "loss_sum": 0.5 * misfit + self.beta_at(step) * kl_sum,
                "weight_sum": valid.sum().float(),
                "chi2_sum": chi2_sum.detach(),
                "kl_sum": kl_sum.detach(),
                "num_samples": active.sum().float(),
            }

    @staticmethod
    def metrics(sums: Mapping[str, float]) -> dict[str, float]:
        """Turn sums over a global batch into readable numbers.

        Returns
        -------
        dict of float
            ``loss`` per valid pixel; ``chi2`` per valid pixel, 1 for a perfect model and correct ivar; ``kl`` per
            spectrum [nat]. All are NaN if no pixel has weight, because 0 / 0 is not a loss.
        """
        pixels, spectra = float(sums["weight_sum"]), float(sums["num_samples"])
        if pixels == 0:
            return dict.fromkeys(("loss", "chi2", "kl"), math.nan)
        return {
            "loss": float(sums["loss_sum"]) / pixels,
            "chi2": float(sums["chi2_sum"]) / pixels,
            "kl": float(sums["kl_sum"]) / spectra,
        }

    def encode(self, batch: SpectraBatch) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the latents, each (N, S) float32."""
        return self._encode(batch, self.grid.position(batch.wavelength_aa, batch.redshift))

    def reconstruct(self, batch: SpectraBatch, refinements: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the reconstruction from the latents, and the pixels that the rest grid covers.

        Returns
        -------
        reconstruction : Tensor, shape (N, L), float32
            Normalised flux on the pixels of the batch.
        covered : Tensor, shape (N, L), bool
            Pixels on the rest grid; the reconstruction of other pixels is undefined.
        """
        return self.describe(batch, refinements)[1:]

    def describe(self, batch: SpectraBatch, refinements: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Encode once; return latents (N, S), reconstruction (N, L) and the pixels on the rest grid (N, L).

        Parameters
        ----------
        batch : SpectraBatch
            Normalised spectra.
        refinements : int, optional
            Gauss-Newton steps from the mean of the latents; those of the ``model`` section by default.
        """
        position = self.grid.position(batch.wavelength_aa, batch.redshift)
        covered, place = self.grid.covers(position), self.grid.place(position)
        latents, _ = self._encode(batch, position)
        weight = torch.where(covered, batch.ivar, 0)
        for _ in range(self.num_refinements if refinements is None else refinements):
            latents = self.refine(latents, batch.flux, weight, place)
        return latents, self._decode(latents, place), covered

    def _encode(self, batch: SpectraBatch, position: Tensor) -> tuple[Tensor, Tensor]:
        visible = batch.ivar > 0
        if batch.visible is not None:
            visible = visible & batch.visible
        redshift = torch.where(torch.isfinite(batch.redshift), batch.redshift, 0)
        excess = torch.where(visible, batch.flux - 1, 0)
        weight = torch.where(visible, batch.ivar, 0)
        bins = bin_channels(*self.grid.bin_spectra(excess, weight, batch.wavelength_aa, redshift, NUM_BINS))
        if isinstance(self.encoder, LeastSquaresEncoder):
            weight = torch.where(self.grid.covers(position), weight, 0)
            scores, errors = self.fit_linear(batch.flux, weight, self.grid.place(position))
            return self.encoder(scores, errors, bins, redshift)
        phase = (position / (self.grid.num_pixels - 1)).clamp(-1, 2).float()
        return self.encoder(batch.flux, batch.ivar, visible, phase, bins, redshift)

    def _decode(self, latents: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
        return self.grid.interpolate_at(self.decoder(latents).float(), place)

    @torch.no_grad()
    def fit_linear(self, flux: Tensor, weight: Tensor, place: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Fit the decoder's mean spectrum and components to the pixels.

        Parameters
        ----------
        flux, weight : Tensor, shape (N, L)
            Normalised flux and its inverse variance; weight 0 masks a pixel.
        place : tuple of Tensor, each of shape (N, L)
            Places of the pixels on the rest grid, from :meth:`RestGrid.place`.

        Returns
        -------
        scores, errors : Tensor, shape (N, S), float32
        """
        with torch.autocast(flux.device.type, enabled=False):
            index, fraction = place
            atoms = self.decoder.atoms
            left = functional.embedding(index, atoms)
            here = left + fraction.float()[..., None] * (functional.embedding(index + 1, atoms) - left)
            return posterior(here[..., 1:], flux.float() - here[..., 0], weight.float())

    @torch.no_grad()
    def refine(self, latents: Tensor, flux: Tensor, weight: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
        """Do one damped Gauss-Newton step towards the most probable latents, and never one that fits worse.

        Parameters
        ----------
        latents : Tensor, shape (N, S)
            Start.
        flux, weight, place
            As in :meth:`fit_linear`.

        Returns
        -------
        Tensor, shape (N, S), float32
        """
        with torch.autocast(latents.device.type, enabled=False):
            weight = weight.float()
            flux = torch.where(weight > 0, flux, 0).float()
            rest, slopes = self.decoder.linearise(latents)
            here = place[0][:, None, :].expand(-1, slopes.shape[1], -1)
            left, fraction = slopes.gather(2, here), place[1].float()[:, None, :]
            design = (left + fraction * (slopes.gather(2, here + 1) - left)).transpose(1, 2)
            residual = flux - self.grid.interpolate_at(rest, place)
            # The prior pulls towards 0, so the step is solved for the latents themselves, not for their change.
            at_zero = residual + (design @ latents[..., None])[..., 0]
            target, _ = posterior(design, at_zero, weight)
            best, misfit = latents, self._misfit(latents, flux, weight, place)
            for share in STEP_LENGTHS:
                tried = latents + share * (target - latents)
                found = self._misfit(tried, flux, weight, place)
                better = found < misfit
                best = torch.where(better[:, None], tried, best)
                misfit = torch.where(better, found, misfit)
            return best

    def _misfit(self, latents: Tensor, flux: Tensor, weight: Tensor, place: tuple[Tensor, Tensor]) -> Tensor:
        """Return chi-square plus the square of the latents (N,), twice the negative log of the posterior."""
        residual = flux - self._decode(latents, place)
        return (weight * residual.square()).sum(dim=1) + latents.square().sum(dim=1)


def rest_extent(section: SpectralVAESection, facts: SpectraFacts) -> tuple[tuple[float, float], int]:
    """Return range [AA] and number of pixels of the rest grid of a section for data of these facts."""
    oversampling = section.rest_oversampling
    if oversampling is None:
        oversampling = 2 if facts.mean_pixel_width_aa > COARSE_PIXEL_AA else 1
    return RestGrid.extent(facts, section.rest_wavelength_aa, section.rest_pixels, oversampling)


def _check_section(section: SpectralVAESection) -> None:
    problems = []
    if section.encoder == LEAST_SQUARES and section.start != PCA:
        problems.append(Problem("model.start", "the least-squares encoder fits the components of a PCA; use pca"))
    channels, kernels = section.encoder_channels, section.encoder_kernels
    if len(channels) != len(kernels):
        problems.append(
            Problem(
                "model.encoder_kernels",
                f"has {len(kernels)} values, encoder_channels has {len(channels)}; give one each",
            )
        )
    if channels[-1] % 2:
        problems.append(
            Problem("model.encoder_channels", f"ends with {channels[-1]}, which is odd; half become attention weights")
        )
    if section.rest_wavelength_aa is not None and section.rest_wavelength_aa[0] >= section.rest_wavelength_aa[1]:
        problems.append(Problem("model.rest_wavelength_aa", "must rise; write [shortest, longest] in AA"))
    if problems:
        raise ProfileError("model section", problems)
