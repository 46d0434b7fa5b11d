"""The start of a run: mean spectrum and components of the training spectra become the first decoder."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.pca import RestSample, WeightedPCA, fit_robust_rounds, fit_rounds
from hpctrain.kinds.spectra.section import SimulateSection
from hpctrain.kinds.spectra.simulate import Simulator

if TYPE_CHECKING:
    from hpctrain.families.family import TrainingSamples
    from hpctrain.families.spectral_vae.network import SpectralVAE
    from hpctrain.families.spectral_vae.section import SpectralVAESection

FEW_SPECTRA = 1000
"""Number of training spectra below which the PCA also gets simulated ones."""

NUM_SIMULATED = 500

REAL_TO_SIMULATED = 4.0
"""Weight of a real spectrum in a PCA with simulated ones: they support it where the real ones say little."""

MAX_VALUES = 50_000_000
"""Most pixels on the rest grid that a fit keeps in memory: 50 million take about 1 GB with their weights."""

_BLOCK = 128


def fit_start(model: SpectralVAE, section: SpectralVAESection, samples: TrainingSamples) -> Iterator[None]:
    """Fit the PCA and set the decoder; yield after each piece of work.

    With ``model.robust``, the PCA minimises the loss that the network goes on to minimise.

    The result is a function of the seed and the samples. The fit uses one thread, so that it does not depend on the
    number of cores either.

    Raises
    ------
    DataError
        No training spectrum can be used.
    """
    real = yield from _read(model, section, samples)
    simulated = yield from _simulate(model, section, samples, len(samples.rows))
    pooled, importance = real, None
    if simulated is not None and len(simulated):
        pooled = RestSample(torch.cat([real.flux, simulated.flux]), torch.cat([real.ivar, simulated.ivar]))
        importance = torch.ones(len(pooled), device=pooled.flux.device)
        importance[: len(real)] = REAL_TO_SIMULATED
    num_components = min(section.latent_size, max(len(pooled) - 1, 0))
    if section.robust is None:
        rounds = fit_rounds(pooled, model.grid, num_components, seed=samples.seed, importance=importance)
    else:
        rounds = fit_robust_rounds(
            pooled, model.grid, num_components, section.robust, seed=samples.seed, importance=importance
        )
    while (fitted := _next_round(rounds)) is not None:
        model.decoder.set_linear(fitted.mean, fitted.basis)
        yield


def _next_round(rounds: Iterator[WeightedPCA]) -> WeightedPCA | None:
    """Compute a round on one thread; return None after the last one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return next(rounds, None)
    finally:
        torch.set_num_threads(threads)


def _read(model: SpectralVAE, section: SpectralVAESection, samples: TrainingSamples) -> Iterator[None]:
    """Return a random sample of the training spectra on the rest grid."""
    most = max(1, min(section.start_spectra, MAX_VALUES // model.grid.num_pixels))
    rows = samples.rows
    if len(rows) > most:
        chosen = np.random.default_rng(samples.seed).choice(len(rows), size=most, replace=False)
        rows = rows[np.sort(chosen)]
    parts = []
    for batch in samples.read(rows):
        parts.append(RestSample.of([batch], model.grid))
        yield
    return _joined(parts)


def _simulate(
    model: SpectralVAE, section: SpectralVAESection, samples: TrainingSamples, num_real: int
) -> Generator[None, None, RestSample | None]:
    """Return simulated spectra in the redshift range of the data; None if none are wanted."""
    wanted = section.start_simulated
    if wanted is None:
        wanted = NUM_SIMULATED if num_real < FEW_SPECTRA else 0
    if not wanted:
        return None
    facts = model.facts
    num_pixels = int(np.clip(6224 / facts.mean_pixel_width_aa, 64, 7781))
    simulator = Simulator(SimulateSection(seed=samples.seed % 2**32, num_pixels=num_pixels))
    wavelength = torch.as_tensor(simulator.wavelength_aa, dtype=torch.float32)
    parts, found = [], 0
    for start in range(0, 4 * wanted, _BLOCK):
        rows = np.arange(start, start + _BLOCK)
        block = simulator.rows(rows)
        redshift = block.columns["redshift"]
        inside = (redshift >= facts.redshift_min) & (redshift <= facts.redshift_max)
        ids = torch.as_tensor(rows[inside])
        batch = SpectraBatch(
            flux=torch.as_tensor(block.flux[inside]),
            ivar=torch.as_tensor(block.ivar[inside]),
            wavelength_aa=wavelength,
            redshift=torch.as_tensor(redshift[inside], dtype=torch.float32),
            target_id=ids,
            row=ids,
        )
        if len(batch):
            parts.append(RestSample.of([samples.prepare(batch.to(samples.device))], model.grid))
            found += len(parts[-1])
        yield
        if found >= wanted:
            break
    return _joined(parts) if parts else None


def _joined(parts: list[RestSample]) -> RestSample:
    return RestSample(torch.cat([part.flux for part in parts]), torch.cat([part.ivar for part in parts]))
