"""What a trained network says about spectra: their reconstructions, and the catalogue of the held-out ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from hpctrain.families.held_out import HeldOut
from hpctrain.families.spectral_vae.catalogue import survey_columns
from hpctrain.families.spectral_vae.encode import encode_to_file
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.residuals import residual_sums
from hpctrain.families.spectral_vae.scoring import FILE, REFERENCE
from hpctrain.families.spectral_vae.shown_results import RESIDUALS
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.chi2 import reduced_chi2
from hpctrain.kinds.spectra.section import NormaliseSection
from hpctrain.kinds.spectra.transform import normalise
from hpctrain.rundir import write_arrays

NUM_ANOMALIES = 20
"""Number of the most unusual spectra that the report lists; it draws the first few of them."""

_SCORES = {
    "anomaly_score": "ANOMALY_SCORE",
    "local_chi2": "LOCAL_CHI2",
    "latent_density": "LATENT_DENSITY",
    "anomaly_reason": "ANOMALY_REASON",
    "snr": "SNR",
}
"""Arrays of ``anomalies.npz`` and the columns of the catalogue that they come from."""


@torch.no_grad()
def reconstructions(model: SpectralVAE, batch: SpectraBatch, step: int) -> dict[str, np.ndarray]:
    """Return spectra and their reconstructions, as the arrays that report and exporters draw.

    Parameters
    ----------
    model : SpectralVAE
        In evaluation mode.
    batch : SpectraBatch
        Normalised spectra.
    step : int
        Number of steps after which the network has these weights.

    Returns
    -------
    dict
        ``wavelength_aa`` (L,) or (n, L) [AA]; ``flux``, ``ivar``, ``reconstruction``, ``covered`` (n, L), normalised;
        ``target_id``, ``redshift``, ``chi2`` (reduced), ``norm`` (n,); ``step``.
    """
    reconstruction, covered = model.reconstruct(batch)
    arrays = {
        "wavelength_aa": batch.wavelength_aa,
        "flux": batch.flux,
        "ivar": batch.ivar,
        "reconstruction": reconstruction.float(),
        "covered": covered,
        "target_id": batch.target_id,
        "redshift": batch.redshift,
        "chi2": reduced_chi2(batch.flux, reconstruction, batch.ivar, covered),
        "norm": batch.norm,
    }
    return {name: value.cpu().numpy() for name, value in arrays.items()} | {"step": np.int64(step)}


@torch.no_grad()
def drawn_spectra(model: SpectralVAE, card: Mapping[str, Any], raw: SpectraBatch) -> dict[str, np.ndarray]:
    """Return spectra and their reconstructions in the unit of the input, ready to plot.

    Parameters
    ----------
    model : SpectralVAE
        In evaluation mode.
    card : mapping
        Its card.
    raw : SpectraBatch
        n spectra as they were read, on the model's device.

    Returns
    -------
    dict of ndarray
        ``wavelength_aa`` (n, L), observed vacuum [AA]; ``rest_wavelength_aa`` (n, L) [AA]; ``flux`` and
        ``reconstruction`` (n, L) in the unit of the input, NaN where a pixel has no weight, and where the model has no
        rest-frame pixel; ``ivar`` (n, L); ``chi2``, ``norm``, ``redshift``, ``target_id`` (n,). A spectrum that cannot
        be normalised has no reconstruction.
    """
    batch = normalise(raw, NormaliseSection.model_validate(card["normalise"]))
    clean = raw.clean()
    reconstruction, covered = model.reconstruct(batch)
    encoded = (batch.window >= 0)[:, None] & covered
    wavelength = batch.wavelength_aa.expand(batch.flux.shape)
    arrays = {
        "wavelength_aa": wavelength,
        "rest_wavelength_aa": wavelength / (1 + batch.redshift)[:, None],
        "flux": torch.where(clean.ivar > 0, clean.flux, torch.nan),
        "ivar": clean.ivar,
        "reconstruction": torch.where(encoded, reconstruction.float() * batch.norm[:, None], torch.nan),
        "chi2": reduced_chi2(batch.flux, reconstruction, batch.ivar, covered),
        "norm": batch.norm.masked_fill(batch.window < 0, torch.nan),
        "redshift": batch.redshift,
        "target_id": batch.target_id,
    }
    return {name: value.cpu().numpy() for name, value in arrays.items()}


def write_results(model: SpectralVAE, card: Mapping[str, Any], held_out: HeldOut, folder: Path) -> None:
    """Encode the held-out spectra; save what they have in common, and the reconstructions of the most unusual ones.

    Raises
    ------
    NothingEncodedError
        No held-out spectrum could be encoded.
    """
    path = folder / "latents.h5"
    encode_to_file(
        model,
        card,
        held_out.samples,
        held_out.rows,
        path,
        batch_size=held_out.batch_size,
        device=held_out.device,
        on_batch=held_out.tick,
        against=FILE,
        keep_reference=folder / REFERENCE,
        with_rows=True,
    )
    with h5py.File(path, "r") as file:
        score = file["ANOMALY_SCORE"][:]
        usable = np.flatnonzero(np.isfinite(score))
        worst = usable[np.argsort(-score[usable], kind="stable")[:NUM_ANOMALIES]]
        columns = survey_columns(file, worst) | {name: file[column][:][worst] for name, column in _SCORES.items()}
    if len(worst):
        batch = held_out.prepare(held_out.samples.read(held_out.rows[worst]).to(held_out.device))
        arrays = reconstructions(model, batch, card["step"]) | columns
        write_arrays(folder / "anomalies.npz", arrays)
    write_arrays(folder / RESIDUALS, residual_sums(model, held_out))
