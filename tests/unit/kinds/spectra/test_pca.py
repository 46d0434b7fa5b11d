"""Mean spectrum and weighted PCA."""

import pytest
import torch

from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.chi2 import reduced_chi2
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.pca import RestSample, WeightedPCA, fit_robust_rounds, fit_rounds
from hpctrain.kinds.spectra.rest_grid import RestGrid

L = 400
WAVELENGTH = torch.tensor(4000.0 * (2.2 ** (torch.arange(L) / (L - 1))).numpy())
FACTS = SpectraFacts(num_pixels=L, wavelength_aa=(4000.0, 8800.0), redshift_min=0.0, redshift_max=0.6)
GRID = RestGrid.for_data(FACTS)


def spectra_of_rank_two(num: int, seed: int, snr: float = 20.0) -> SpectraBatch:
    generator = torch.Generator().manual_seed(seed)
    redshift = 0.6 * torch.rand(num, generator=generator)
    rest = WAVELENGTH / (1 + redshift[:, None])
    scores = torch.randn(num, 2, generator=generator)
    line = torch.exp(-0.5 * ((rest - 4500.0) / 50.0) ** 2)
    truth = 1.0 + 0.3 * scores[:, :1] * (rest / 4500.0 - 1) + 0.5 * scores[:, 1:] * line
    ivar = torch.full((num, L), snr**2)
    ivar[torch.rand(num, L, generator=generator) < 0.1] = 0
    flux = truth + torch.randn(num, L, generator=generator) / snr
    ids = torch.arange(num)
    return SpectraBatch(torch.where(ivar > 0, flux, 1e30), ivar, WAVELENGTH, redshift, ids, ids)


def chi2_of(model: WeightedPCA, batch: SpectraBatch) -> float:
    reconstruction, covered = model.reconstruct(batch)
    return float(reduced_chi2(batch.flux, reconstruction, batch.ivar, covered).mean())


def test_as_many_components_as_the_data_have_explain_new_spectra_to_the_noise():
    model = WeightedPCA.fit([spectra_of_rank_two(200, 1)], GRID, 2, scatter=0.01)
    assert chi2_of(model, spectra_of_rank_two(50, 2)) == pytest.approx(1.0, abs=0.1)


@pytest.mark.slow
def test_fewer_components_explain_less():
    train, held_out = spectra_of_rank_two(200, 1), spectra_of_rank_two(50, 2)
    chi2 = [chi2_of(WeightedPCA.fit([train], GRID, size, scatter=0.01), held_out) for size in (0, 1, 2)]
    assert chi2[0] > 1.2 * chi2[1]
    assert chi2[1] > 2 * chi2[2]


def test_without_components_it_is_the_weighted_mean_in_the_rest_frame():
    batch = spectra_of_rank_two(300, 1)
    model = WeightedPCA.fit([batch], GRID, 0, smoothness=100.0)
    assert model.num_components == 0
    inner = model.mean[(GRID.wavelength_aa > 4200) & (GRID.wavelength_aa < 4350)]
    torch.testing.assert_close(inner, torch.ones_like(inner), atol=0.06, rtol=0)


def test_spectra_may_come_in_several_batches():
    batch = spectra_of_rank_two(60, 1)
    halves = [
        batch.replace(flux=batch.flux[part], ivar=batch.ivar[part], redshift=batch.redshift[part])
        for part in (slice(0, 25), slice(25, 60))
    ]
    whole, parts = WeightedPCA.fit([batch], GRID, 1), WeightedPCA.fit(halves, GRID, 1)
    torch.testing.assert_close(whole.mean, parts.mean)
    torch.testing.assert_close(whole.basis, parts.basis)


def with_bright_oddities(num: int, num_odd: int) -> RestSample:
    """Return spectra of rank two on the rest grid, the last ones ten times as bright and with ripples of their own."""
    batch = spectra_of_rank_two(num, 1)
    generator = torch.Generator().manual_seed(3)
    period = 20 + 180 * torch.rand(num_odd, 1, generator=generator)
    ripples = 0.3 * torch.sin(2 * torch.pi * torch.arange(L) / period)
    flux, ivar = batch.flux.clone(), batch.ivar.clone()
    flux[-num_odd:] += ripples
    ivar[-num_odd:] *= 100
    return RestSample.of([batch.replace(flux=flux, ivar=ivar)], GRID)


def robust_loss(fit: WeightedPCA, batch: SpectraBatch) -> float:
    reconstruction, covered = fit.reconstruct(batch)
    return float(torch.log1p(reduced_chi2(batch.flux, reconstruction, batch.ivar, covered) / 3).mean())


def test_bright_odd_spectra_do_not_own_the_components_of_a_robust_fit():
    sample, held_out = with_bright_oddities(200, 10), spectra_of_rank_two(50, 2)
    *_, plain = fit_rounds(sample, GRID, 2, scatter=0.0)
    *_, robust = fit_robust_rounds(sample, GRID, 2, 3.0)
    assert robust.num_components == 2
    assert chi2_of(robust, held_out) == pytest.approx(1.0, abs=0.1)
    assert chi2_of(plain, held_out) > 2 * chi2_of(robust, held_out)


def test_a_robust_fit_ends_below_the_plain_one_in_the_loss_of_its_own_spectra():
    batch = spectra_of_rank_two(150, 1, snr=60.0)
    sample = RestSample.of([batch], GRID)
    *_, plain = fit_rounds(sample, GRID, 1)
    *_, robust = fit_robust_rounds(sample, GRID, 1, 3.0)
    assert robust_loss(robust, batch) < robust_loss(plain, batch)


@pytest.mark.parametrize(("num_spectra", "num_components"), [(1, 0), (3, 2), (30, 5)])
def test_each_round_of_a_robust_fit_has_the_components_asked_for(num_spectra, num_components):
    sample = RestSample.of([spectra_of_rank_two(num_spectra, 1)], GRID)
    for fit in fit_robust_rounds(sample, GRID, num_components, 3.0, num_iterations=3):
        assert fit.basis.shape == (num_components, GRID.num_pixels)
        assert torch.isfinite(fit.mean).all()
        assert torch.isfinite(fit.basis).all()


def test_a_spectrum_of_importance_two_counts_like_two_spectra():
    once = RestSample.of([spectra_of_rank_two(40, 1)], GRID)
    twice = RestSample(torch.cat([once.flux, once.flux[:10]]), torch.cat([once.ivar, once.ivar[:10]]))
    importance = torch.ones(40)
    importance[:10] = 2
    *_, weighted = fit_robust_rounds(once, GRID, 0, 3.0, importance=importance)
    *_, repeated = fit_robust_rounds(twice, GRID, 0, 3.0)
    torch.testing.assert_close(weighted.mean, repeated.mean, atol=1e-4, rtol=0)
