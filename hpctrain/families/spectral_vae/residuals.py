"""Residuals of the held-out spectra, summed by observed and by rest-frame wavelength. N spectra, L pixels, B bins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch

from hpctrain.families.held_out import HeldOut
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.samples.loader import padded_requests, read_ahead

MOST_SPECTRA = 4096
"""Largest number of held-out spectra for the sums; more would change no figure."""

_OBSERVED_BINS, _REST_BINS = 240, 480


@torch.no_grad()
def residual_sums(model: SpectralVAE, held_out: HeldOut) -> dict[str, np.ndarray]:
    """Sum the residuals of reconstructions over spectra.

    Parameters
    ----------
    model : SpectralVAE
        In evaluation mode.
    held_out : HeldOut
        With more than `MOST_SPECTRA` spectra, evenly spaced ones of them.

    Returns
    -------
    dict
        For observed wavelengths ``observed_edges_aa`` (B + 1,) [AA], and for rest-frame wavelengths
        ``rest_edges_aa``: the number of pixels ``*_count``, the sum of residuals in units of their error ``*_pull``,
        and the sum of their squares ``*_chi2`` (B,) in each bin. ``num_spectra`` is the number of spectra.
    """
    facts, grid = model.facts, model.grid.wavelength_aa
    observed = np.linspace(*facts.wavelength_aa, _OBSERVED_BINS + 1)
    rest = np.geomspace(float(grid[0]), float(grid[-1]), _REST_BINS + 1)
    sums = {"observed": np.zeros((3, _OBSERVED_BINS)), "rest": np.zeros((3, _REST_BINS))}
    rows = held_out.rows
    if len(rows) > MOST_SPECTRA:
        rows = rows[np.linspace(0, len(rows) - 1, MOST_SPECTRA).astype(np.int64)]
    num_spectra = 0
    for wavelength_aa, redshift, pull in _pulls(model, held_out, rows):
        known = np.isfinite(pull)
        num_spectra += int(known.any(axis=1).sum())
        places = {"observed": wavelength_aa, "rest": wavelength_aa / (1.0 + redshift)[:, None]}
        for name, edges in (("observed", observed), ("rest", rest)):
            index = np.searchsorted(edges, places[name][known], side="right") - 1
            inside = (index >= 0) & (index < len(edges) - 1)
            values = pull[known][inside]
            for total, weights in zip(sums[name], (None, values, values**2), strict=True):
                total += np.bincount(index[inside], weights, len(total))
    found = {"observed_edges_aa": observed, "rest_edges_aa": rest, "num_spectra": np.int64(num_spectra)}
    for name, totals in sums.items():
        found |= {f"{name}_{what}": total for what, total in zip(("count", "pull", "chi2"), totals, strict=True)}
    return found


def _pulls(
    model: SpectralVAE, held_out: HeldOut, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield wavelengths (N, L) [AA], redshifts (N,) and residuals / error (N, L), NaN where a pixel has no weight."""
    done = 0
    batches = read_ahead(held_out.samples, padded_requests(rows, held_out.batch_size), threads=1, depth=2)
    with closing(batches):
        for raw in batches:
            batch = held_out.prepare(raw.to(held_out.device))
            reconstruction, covered = model.reconstruct(batch)
            pull = (batch.flux - reconstruction.float()) * batch.ivar.sqrt()
            pull = torch.where(covered & (batch.ivar > 0), pull, torch.nan)
            wavelength_aa = batch.wavelength_aa.expand(pull.shape)
            yield tuple(value.double().cpu().numpy() for value in (wavelength_aa, batch.redshift, pull))
            done += len(raw)
            held_out.tick(min(done, len(rows)))
