"""Flux and ivar change together, and what has no weight has no influence."""

import numpy as np
import pytest
import torch

from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.section import AugmentSection, NormaliseSection
from hpctrain.kinds.spectra.transform import augment, normalise, to_rest_frame

LINEAR = torch.linspace(3600, 9824, 778)
LOG = torch.logspace(np.log10(3600), np.log10(9824), 700)
GALAXY, BLUE, QUASAR, FAR = range(4)


def make_batch(redshift=(0.3, 1.0, 2.5, 0.1), wavelength=LINEAR, seed=0, level=5.0):
    random = torch.Generator().manual_seed(seed)
    n, pixels = len(redshift), wavelength.shape[-1]
    ivar = 0.5 + 4 * torch.rand(n, pixels, generator=random)
    flux = level * (1 + 0.1 * torch.randn(n, pixels, generator=random))
    bad = torch.rand(n, pixels, generator=random) < 0.1
    ivar[bad] = 0
    flux[bad] = 0
    return SpectraBatch(
        flux=flux,
        ivar=ivar,
        wavelength_aa=wavelength,
        redshift=torch.tensor(redshift),
        target_id=torch.arange(n),
        row=torch.arange(n),
    )


def test_the_norm_is_the_median_of_the_valid_pixels_of_the_first_window_that_fits():
    batch = make_batch(redshift=(0.3, 1.0, 3.0, 4.8, 0.67, 0.69))
    result = normalise(batch, NormaliseSection())
    assert result.window.tolist() == [0, 1, 2, 3, 0, 1]
    for i, (low, high) in enumerate([(5300, 5850), (2500, 2700), (1600, 1800), (1450, 1470)]):
        rest = LINEAR / (1 + batch.redshift[i])
        inside = (rest >= low) & (rest < high) & (batch.ivar[i] > 0)
        assert result.norm[i].item() == pytest.approx(np.median(batch.flux[i][inside].numpy()), rel=1e-6)
        assert torch.allclose(result.flux[i], batch.flux[i] / result.norm[i])


@pytest.mark.parametrize("rows", ["shared", "own"])
def test_a_grid_per_row_gives_the_same_as_one_for_all(rows):
    batch = make_batch()
    own = batch.replace(wavelength_aa=LINEAR.expand(4, -1))
    assert torch.equal(normalise(own, NormaliseSection()).flux, normalise(batch, NormaliseSection()).flux)


def test_chi2_is_the_same_before_and_after():
    batch = make_batch()
    model = torch.full_like(batch.flux, 4.0)
    before = (batch.ivar * (batch.flux - model) ** 2).sum(1)
    after = normalise(batch, NormaliseSection())
    assert torch.allclose((after.ivar * (after.flux - model / after.norm[:, None]) ** 2).sum(1), before, rtol=1e-5)
    rest = to_rest_frame(batch)
    stretched = model * (1 + batch.redshift)[:, None]
    assert torch.allclose((rest.ivar * (rest.flux - stretched) ** 2).sum(1), before, rtol=1e-5)


def test_cgs_units_work_in_float32():
    batch = make_batch(level=5e-17)
    batch = batch.replace(ivar=batch.ivar * 1e34)
    result = normalise(batch, NormaliseSection())
    reference = normalise(make_batch(), NormaliseSection())
    assert torch.allclose(result.flux, reference.flux, rtol=1e-4)
    assert torch.allclose(result.ivar, reference.ivar, rtol=1e-4)


@pytest.mark.parametrize("garbage", [1e30, float("nan"), float("inf")])
def test_garbage_without_weight_changes_nothing(garbage):
    batch = make_batch()
    spoilt = batch.replace(flux=torch.where(batch.ivar > 0, batch.flux, garbage))
    one, other = normalise(batch, NormaliseSection()), normalise(spoilt, NormaliseSection())
    for name in ("flux", "ivar", "norm", "window"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    section = AugmentSection(redshift_shift=0.1, noise=0.5)
    results = []
    for each in (one, other):
        torch.manual_seed(1)
        results.append(augment(each, section))
    assert torch.equal(results[0].flux, results[1].flux)


REJECTED = {
    "no window is in the observed range": {"redshift": 9.0},
    "the median is negative": {"flux": -5.0},
    "the median is zero": {"flux": 0.0},
    "nothing is valid": {"ivar": 0.0},
    "the norm is not significant": {"ivar": 1e-5},
}


@pytest.mark.parametrize("why", REJECTED)
def test_a_spectrum_is_rejected_and_its_neighbours_are_not(why):
    batch = make_batch()
    for name, value in REJECTED[why].items():
        getattr(batch, name)[1] = value
    result = normalise(batch, NormaliseSection())
    assert result.window.tolist() == [0, -1, 1, 0]
    assert result.norm[1] == 1
    assert (result.ivar[1] == 0).all()
    assert (result.flux[1] == 0).all()
    assert all(torch.isfinite(tensor).all() for tensor in (result.flux, result.ivar, result.norm))
    assert result.window.dtype == torch.int8


def test_the_signal_to_noise_cut_is_that_of_the_norm():
    n = 2000
    random = torch.Generator().manual_seed(3)
    flux = 1.0 + 20 * torch.randn(n, 778, generator=random)
    batch = SpectraBatch(
        flux, torch.full((n, 778), 1 / 400), LINEAR, torch.full((n,), 0.3), torch.arange(n), torch.arange(n)
    )
    norm = normalise(batch, NormaliseSection(min_snr=0.0)).norm
    num_pixels = int(((LINEAR >= 5300 * 1.3) & (LINEAR < 5850 * 1.3)).sum())
    error = 20 * np.sqrt(np.pi / 2 / num_pixels)
    kept = normalise(batch, NormaliseSection(min_snr=1.0)).window >= 0
    assert torch.equal(kept, (norm / error >= 1.0) & (norm != 1))
    # and that error is the true scatter of the median
    medians = flux[:, (LINEAR >= 5300 * 1.3) & (LINEAR < 5850 * 1.3)].median(dim=1).values
    assert medians.std().item() == pytest.approx(error, rel=0.06)


def test_an_empty_batch_and_padding_rows_pass_through():
    empty = normalise(make_batch(redshift=()), NormaliseSection())
    assert len(empty) == 0
    batch = make_batch()
    batch.flux[2], batch.ivar[2] = 0, 0
    assert normalise(batch, NormaliseSection()).used.tolist() == [True, True, False, True]


def test_the_same_seed_augments_alike_and_another_one_does_not():
    section = AugmentSection(redshift_shift=0.05, noise=0.3, mask_fraction=0.3)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augment(make_batch(), section))
    for name in ("flux", "ivar", "redshift", "visible"):
        assert torch.equal(getattr(results[0], name), getattr(results[1], name))
        assert not torch.equal(getattr(results[0], name), getattr(results[2], name))


def test_no_augmentation_is_the_batch_itself():
    batch = make_batch()
    assert augment(batch, AugmentSection()) is batch


@pytest.mark.parametrize("wavelength", [LINEAR, LOG, LINEAR.expand(4, -1)], ids=["linear", "log", "per row"])
def test_a_line_moves_to_where_the_new_redshift_puts_it(wavelength):
    redshift = (0.3, 1.0, 2.5, 0.5)
    batch = make_batch(redshift=redshift, wavelength=wavelength)
    grid = wavelength.expand(4, -1)
    line_aa = torch.tensor([5000.0, 2800.0, 1900.0, 4000.0])

    def spectrum(z):
        return 1 + torch.exp(-0.5 * ((grid - line_aa[:, None] * (1 + z)[:, None]) / (40 * (1 + z)[:, None])) ** 2)

    torch.manual_seed(4)
    shifted = augment(
        batch.replace(flux=spectrum(batch.redshift), ivar=torch.ones_like(batch.ivar)),
        AugmentSection(redshift_shift=0.2),
    )
    assert ((shifted.redshift - batch.redshift).abs() <= 0.2).all()
    assert (shifted.redshift != batch.redshift).all()
    seen = shifted.ivar > 0
    assert torch.allclose(shifted.flux[seen], spectrum(shifted.redshift)[seen], atol=0.01)
    assert (shifted.flux[~seen] == 0).all()
    # What comes from beyond the ends of the grid has no weight, and the rest has.
    source = grid * ((1 + batch.redshift) / (1 + shifted.redshift))[:, None]
    inside = (source >= grid[:, :1] + 0.01) & (source <= grid[:, -1:] - 0.01)
    assert torch.equal(seen[inside], torch.ones_like(seen[inside]))


def test_ivar_stays_honest_under_shift_and_noise():
    n = 400
    clean = torch.full((n, 778), 3.0)
    random = torch.Generator().manual_seed(5)
    ivar = (0.5 + torch.rand(778, generator=random)).expand(n, -1).contiguous()
    flux = clean + torch.randn(n, 778, generator=random) / ivar.sqrt()
    batch = SpectraBatch(flux, ivar, LINEAR, torch.full((n,), 1.0), torch.arange(n), torch.arange(n))
    torch.manual_seed(6)
    result = augment(batch, AugmentSection(redshift_shift=0.1, noise=0.7))
    valid = result.ivar > 0
    pull2 = (result.ivar * (result.flux - 3.0) ** 2)[valid]
    assert pull2.mean().item() == pytest.approx(1.0, abs=0.02)


def test_no_masked_pixel_is_interpolated_into_a_valid_one():
    batch = make_batch()
    spoilt = batch.replace(flux=torch.where(batch.ivar > 0, batch.flux, 1e30))
    torch.manual_seed(1)
    result = augment(spoilt, AugmentSection(redshift_shift=0.1))
    assert result.flux.abs().max() < 100


def test_redshifts_do_not_fall_below_zero():
    batch = make_batch(redshift=(0.0, 0.01, 0.02, -0.001))
    for seed in range(20):
        torch.manual_seed(seed)
        redshift = augment(batch, AugmentSection(redshift_shift=0.5)).redshift
        assert (redshift[:3] >= 0).all()
        assert redshift[3] >= -0.0011


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.9])
def test_the_asked_share_is_hidden_in_blocks_and_the_loss_still_sees_it(fraction):
    batch = make_batch(redshift=(0.5,) * 200)
    torch.manual_seed(7)
    result = augment(batch, AugmentSection(mask_fraction=fraction))
    assert torch.equal(result.ivar, batch.ivar)
    hidden = ~result.visible
    assert hidden.float().mean().item() == pytest.approx(fraction, abs=0.01)
    assert (hidden.float().mean(0) > 0).all()
    edges = (hidden[:, 1:] != hidden[:, :-1]).sum(1)
    assert edges.max() <= 64


def test_the_rest_frame_conserves_the_integral():
    batch = make_batch()
    rest = to_rest_frame(batch)
    before = torch.trapezoid(batch.flux, LINEAR.expand(4, -1), dim=1)
    assert torch.allclose(torch.trapezoid(rest.flux, rest.wavelength_aa, dim=1), before, rtol=1e-5)
    assert rest.wavelength_aa.shape == (4, 778)
