"""Results of a network on spectra, in PyTorch and through the runtime of the device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from hpctrain.edge.forest import IsolationForest
from hpctrain.edge.gates import Seen, nearest_classes
from hpctrain.edge.networks import ExportedNetwork
from hpctrain.edge.prepare import Preparation
from hpctrain.edge.progress import SILENT, Progress
from hpctrain.edge.sample import SPECTRA_AT_ONCE, prepared_batches, signal_to_noise
from hpctrain.errors import DataError
from hpctrain.families.spectral_vae.anomaly import fit_reference
from hpctrain.families.spectral_vae.anomaly_reference import AnomalyReference
from hpctrain.kinds.spectra.chi2 import reduced_chi2
from hpctrain.kinds.spectra.hdf5 import SpectraSet
from hpctrain.kinds.spectra.section import NormaliseSection
from hpctrain.kinds.spectra.transform import normalise

_BATCH = 64
_FEWEST = 32
"""Smallest number of spectra to compare others with."""


class Network(Protocol):
    """Computes the outputs of an exported network: onnxruntime, or PyTorch itself."""

    provider: str

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]: ...


class TorchNetwork:
    """An exported network in PyTorch, called as :class:`~hpctrain.edge.runtime.OnnxNetwork` is.

    Parameters
    ----------
    network : ExportedNetwork
    """

    provider = "PyTorch"

    def __init__(self, network: ExportedNetwork) -> None:
        self._network = network

    @torch.no_grad()
    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = self._network.module(*(torch.from_numpy(feeds[port.name]) for port in self._network.inputs))
        return {port.name: value.numpy() for port, value in zip(self._network.outputs, values, strict=True)}


@torch.no_grad()
def see_in_pytorch(
    model: torch.nn.Module,
    card: dict[str, Any],
    spectra: SpectraSet,
    rows: np.ndarray,
    progress: Progress = SILENT,
    what: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """Encode and reconstruct as the trainer does, in float32.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode, on the CPU.
    card : dict
        The model's card.
    spectra : SpectraSet
    rows : ndarray of int64, shape (N,)
    progress : Progress
        Shows the progress.
    what : str
        Name of this loop in the progress.

    Returns
    -------
    latents : ndarray, shape (N, S), float32
    chi2 : ndarray, shape (N,), float32
        Reduced chi-square. Both arrays are NaN where a spectrum cannot be encoded.
    """
    section = NormaliseSection.model_validate_json(json.dumps(card["normalise"]))
    latents, chi2 = [], []
    starts = range(0, len(rows), _BATCH)
    for start in progress.track(starts, what, len(starts)):
        batch = normalise(spectra.read(rows[start : start + _BATCH]), section)
        mean, reconstruction, covered = model.describe(batch)
        fit = reduced_chi2(batch.flux, reconstruction, batch.ivar, covered)
        unused = torch.isnan(fit) | (batch.window < 0)
        latents.append(mean.masked_fill(unused[:, None], torch.nan).numpy())
        chi2.append(fit.masked_fill(unused, torch.nan).numpy())
    return np.concatenate(latents), np.concatenate(chi2)


def see_through_runtime(
    network: Network,
    preparation: Preparation,
    spectra: SpectraSet,
    rows: np.ndarray,
    progress: Progress = SILENT,
    what: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """Encode and reconstruct as the device does; otherwise the same as :func:`see_in_pytorch`."""
    latents, chi2 = [], []
    batches = prepared_batches(spectra, rows, preparation)
    for prepared in progress.track(batches, what, -(-len(rows) // SPECTRA_AT_ONCE)):
        columns = preparation.catalogue(prepared, network(prepared.feeds))
        latents.append(columns["LATENT_VEC"])
        chi2.append(columns["RECON_MSE"])
    return np.concatenate(latents).astype(np.float32), np.concatenate(chi2)


def observed(spectra: SpectraSet, rows: np.ndarray, preparation: Preparation) -> tuple[np.ndarray, np.ndarray]:
    """Return the median signal to noise ratio per valid pixel and the redshift of spectra, each of shape (N,)."""
    snr, redshift = [], []
    for prepared in prepared_batches(spectra, rows, preparation):
        snr.append(signal_to_noise(prepared))
        redshift.append(prepared.feeds["redshift"])
    return np.concatenate(snr), np.concatenate(redshift)


@dataclass(frozen=True)
class Ordinary:
    """What the anomaly scores of a bundle compare with.

    Parameters
    ----------
    reference : AnomalyReference
    forest : IsolationForest
    origin : str
        Number and kind of the spectra of the reference.
    """

    reference: AnomalyReference
    forest: IsolationForest
    origin: str


def fit_ordinary(train: tuple[np.ndarray, ...], held_out: tuple[np.ndarray, ...], seed: int) -> Ordinary:
    """Fit what spectra have in common: the score to held-out ones, the forest to training spectra.

    The network fits its training spectra better than others, so that among them a new spectrum would look unusual.

    Parameters
    ----------
    train, held_out : tuple of ndarray
        Latents (N, S) and reduced chi-square (N,) of :func:`see_in_pytorch`, signal to noise ratio and redshift (N,) of
        :func:`observed`. Training spectra take the place of held-out ones if fewer than 32 of these have latents.
    seed : int

    Raises
    ------
    DataError
        Too few training spectra have latents.
    """
    known, judged = (latents.astype(np.float16).astype(np.float32) for latents, *_ in (train, held_out))
    finite, others = (latents[np.isfinite(latents).all(axis=1)] for latents in (known, judged))
    if len(finite) < _FEWEST:
        raise DataError(f"only {len(finite)} training spectra have latents; the anomaly score needs {_FEWEST} or more")
    is_held_out = len(others) >= _FEWEST
    latents, (_, *columns) = (judged, held_out) if is_held_out else (known, train)
    reference = fit_reference(latents, *columns, seed, for_others=True)
    side = "held-out" if is_held_out else "training"
    return Ordinary(reference, IsolationForest.fit(finite, seed), f"{reference.num_objects} {side} spectra")


def with_meaning(
    latents: np.ndarray,
    chi2: np.ndarray,
    at: tuple[np.ndarray, np.ndarray],
    ordinary: Ordinary,
    reference: tuple[np.ndarray, np.ndarray] | None,
) -> Seen:
    """Add anomaly scores and classes to the results of a network.

    Parameters
    ----------
    latents : ndarray, shape (N, S), float32
    chi2 : ndarray, shape (N,), float32
        Results from :func:`see_in_pytorch`.
    at : tuple of ndarray, shape (N,)
        Signal to noise ratio and redshift, of :func:`observed`.
    ordinary : Ordinary
        Other spectra, encoded by the same network.
    reference : tuple of ndarray, optional
        Latents of training spectra from the same network, and their classes.
    """
    found = None
    if reference is not None:
        known = np.isfinite(reference[0]).all(axis=1)
        found = nearest_classes(reference[0][known], reference[1][known], latents)
    stored = latents.astype(np.float16).astype(np.float32)  # the catalogue holds half precision, and so does its score
    return Seen(latents, chi2, ordinary.reference.score(stored, chi2, *at)["ANOMALY_SCORE"], found)
