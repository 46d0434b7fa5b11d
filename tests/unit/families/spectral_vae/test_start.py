"""The weights that a run starts from: PCA of its training spectra."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hpctrain.families.family import TrainingSamples
from hpctrain.families.spectral_vae.family import FAMILY
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.chi2 import reduced_chi2
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.hdf5 import SpectraSet, open_spectra
from hpctrain.kinds.spectra.pca import RestSample, WeightedPCA, fit_rounds
from hpctrain.kinds.spectra.section import NormaliseSection, SimulateSection, SpectraSection
from hpctrain.kinds.spectra.simulate import simulate
from hpctrain.kinds.spectra.transform import normalise

SECTION = SpectralVAESection(latent_size=3, start_simulated=0)


@pytest.fixture(scope="module")
def spectra(tmp_path_factory) -> SpectraSet:
    path: Path = tmp_path_factory.mktemp("start") / "simulated.h5"
    simulate(path, SimulateSection(num_spectra=120, num_pixels=128, seed=3))
    return open_spectra(SpectraSection(files=[str(path)]))


def read(spectra: SpectraSet, rows: np.ndarray, size: int = 40):
    for start in range(0, len(rows), size):
        yield normalise(spectra.read(rows[start : start + size]), NormaliseSection())


def samples_of(spectra: SpectraSet, size: int = 40, seed: int = 5) -> TrainingSamples:
    return TrainingSamples(
        rows=np.arange(len(spectra)),
        read=lambda rows: read(spectra, rows, size),
        prepare=lambda batch: normalise(batch, NormaliseSection()),
        device=torch.device("cpu"),
        seed=seed,
    )


def started(spectra: SpectraSet, section: SpectralVAESection = SECTION, size: int = 40, seed: int = 5) -> SpectralVAE:
    torch.manual_seed(0)
    model = SpectralVAE(section, SpectraFacts.from_spectra(spectra, np.arange(len(spectra))))
    assert sum(1 for _ in FAMILY.start(model, section, samples_of(spectra, size, seed))) > 3
    return model.eval()


@torch.no_grad()
def chi2_of(model: SpectralVAE, batch: SpectraBatch) -> torch.Tensor:
    reconstruction, covered = model.reconstruct(batch, refinements=0)
    return reduced_chi2(batch.flux, reconstruction, batch.ivar, covered)


def test_before_the_first_step_the_network_is_fitted_pca(spectra):
    model = started(spectra)
    pca = WeightedPCA(model.grid, model.decoder.mean, model.decoder.components)
    (batch,) = read(spectra, np.arange(60), 60)
    ours, covered = model.reconstruct(batch, refinements=0)
    theirs, _ = pca.reconstruct(batch)
    chi2 = [reduced_chi2(batch.flux, fit, batch.ivar, covered).detach().numpy() for fit in (ours, theirs)]
    assert np.isfinite(chi2[0]).sum() > 50
    np.testing.assert_allclose(*chi2, rtol=1e-3)


def test_the_start_does_not_depend_on_batches_or_the_number_of_threads(spectra):
    threads = torch.get_num_threads()
    models = []
    try:
        for number, size in ((1, 40), (2, 40), (2, 7)):
            torch.set_num_threads(number)
            models.append(started(spectra, size=size))
    finally:
        torch.set_num_threads(threads)
    for model in models[1:]:
        assert torch.equal(model.decoder.components, models[0].decoder.components)
        assert torch.equal(model.decoder.mean, models[0].decoder.mean)


@pytest.mark.slow
def test_few_spectra_are_pooled_with_simulated_ones_of_their_redshifts(spectra):
    alone, pooled = started(spectra), started(spectra, SECTION.model_copy(update={"start_simulated": 40}))
    assert not torch.equal(alone.decoder.components, pooled.decoder.components)
    by_default = started(spectra, SECTION.model_copy(update={"start_simulated": None}))
    assert not torch.equal(alone.decoder.components, by_default.decoder.components)


def test_fewer_spectra_than_latents_leave_the_last_components_empty(spectra):
    model = SpectralVAE(SECTION, SpectraFacts.from_spectra(spectra, np.arange(len(spectra))))
    samples = samples_of(spectra)
    two = TrainingSamples(samples.rows[:2], samples.read, samples.prepare, samples.device, samples.seed)
    list(FAMILY.start(model, SECTION, two))
    assert bool((model.decoder.components[1:] == 0).all())
    assert bool(torch.isfinite(model.decoder.mean).all())


@pytest.mark.parametrize("garbage", [1e30, -1e12, 5e3])
def test_a_pixel_that_nobody_masked_does_not_spoil_the_fit(spectra, garbage):
    model, samples = started(spectra), samples_of(spectra)

    def spoilt(rows):
        for batch in samples.read(rows):
            flux = batch.flux.clone()
            flux[0, 60:62] = torch.where(batch.ivar[0, 60:62] > 0, garbage, flux[0, 60:62])
            yield batch.replace(flux=flux)

    found = SpectralVAE(SECTION, model.facts)
    list(FAMILY.start(found, SECTION, TrainingSamples(samples.rows, spoilt, samples.prepare, samples.device, 5)))
    found.eval()
    (others,) = read(spectra, np.arange(1, len(spectra)), len(spectra))
    chi2 = [float(chi2_of(network, others).nanmedian()) for network in (model, found)]
    assert chi2[1] == pytest.approx(chi2[0], rel=0.1)


def test_without_robust_loss_the_start_is_the_plain_pca(spectra):
    model = started(spectra, SECTION.model_copy(update={"robust": None}))
    sample = RestSample.of(read(spectra, np.arange(len(spectra))), model.grid)
    *_, plain = fit_rounds(sample, model.grid, 3, seed=5)
    assert torch.equal(model.decoder.components, plain.basis)
    assert not torch.equal(model.decoder.components, started(spectra).decoder.components)


@pytest.mark.slow
def test_the_robust_start_is_on_average_below_the_plain_pca_in_the_loss_of_the_network(spectra):
    """Both end in one of several places, which depends on the seed."""
    (batch,) = read(spectra, np.arange(len(spectra)), len(spectra))
    plain = SECTION.model_copy(update={"robust": None})

    def loss(section: SpectralVAESection, seed: int) -> float:
        model = started(spectra, section, seed=seed)
        return float(torch.log1p(chi2_of(model, batch) / SECTION.robust).nanmean())

    seeds = range(1, 9)
    assert np.mean([loss(SECTION, seed) for seed in seeds]) < np.mean([loss(plain, seed) for seed in seeds])


def test_spectra_without_a_valid_pixel_are_not_part_of_the_fit(spectra):
    model = SpectralVAE(SECTION, SpectraFacts.from_spectra(spectra, np.arange(len(spectra))))
    (batch,) = read(spectra, np.arange(10), 10)
    ivar = batch.ivar.clone()
    ivar[3:5] = 0
    assert len(RestSample.of([batch.replace(ivar=ivar)], model.grid)) == int((ivar > 0).any(dim=1).sum())
