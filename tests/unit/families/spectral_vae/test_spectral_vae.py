"""The network: what may reach it, what it returns, and that it learns."""

import copy

import pytest
import torch

from hpctrain.errors import ProfileError
from hpctrain.families.blocks.masked import MaskedInstanceNorm
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.families.spectral_vae.section import SpectralVAESection
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.facts import SpectraFacts

L = 300
WAVELENGTH = torch.linspace(3600.0, 9824.0, L)
FACTS = SpectraFacts(
    num_pixels=L,
    wavelength_aa=(3600.0, 9824.0),
    redshift_min=0.1,
    redshift_max=1.5,
    wavelength_middle_aa=float(WAVELENGTH[L // 2]),
)
SIZES = {"latent_size": 3, "encoder_hidden": [16], "decoder_hidden": [16, 32]}
CONVOLUTIONS = {"encoder_channels": [8, 16], "encoder_kernels": [5, 7]}
SMALL = SpectralVAESection(**SIZES, **CONVOLUTIONS)
"""The network of hpctrain before it had other encoders than convolutions."""
SECTIONS = {
    "least squares": SpectralVAESection(**SIZES),
    "convolutions beside PCA": SpectralVAESection(**SIZES, **CONVOLUTIONS, encoder="convolutional"),
    "convolutions alone": SMALL,
}


@pytest.fixture(params=SECTIONS.values(), ids=SECTIONS)
def section(request) -> SpectralVAESection:
    return request.param


def make_batch(num_spectra: int = 6, seed: int = 0, snr: float = 10.0) -> SpectraBatch:
    """Power laws with one broad line: two numbers per object, so three latents are enough."""
    generator = torch.Generator().manual_seed(seed)
    redshift = 0.1 + 1.4 * torch.rand(num_spectra, generator=generator)
    rest = WAVELENGTH / (1 + redshift[:, None])
    slope = torch.randn(num_spectra, 1, generator=generator)
    height = torch.rand(num_spectra, 1, generator=generator)
    truth = (rest / 3000.0) ** slope + height * torch.exp(-0.5 * ((rest - 2798.0) / 60.0) ** 2)
    ivar = torch.full((num_spectra, L), snr**2)
    ivar[:, 40:50] = 0
    noise = torch.randn(num_spectra, L, generator=generator) / snr
    ids = torch.arange(num_spectra)
    return SpectraBatch(
        flux=torch.where(ivar > 0, truth + noise, 0),
        ivar=ivar,
        wavelength_aa=WAVELENGTH,
        redshift=redshift,
        target_id=ids,
        row=ids,
        norm=torch.ones(num_spectra),
        window=torch.zeros(num_spectra, dtype=torch.int8),
    )


def make_model(section: SpectralVAESection = SMALL, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = SpectralVAE(section, FACTS)
    if section.start == "pca":
        phase = torch.linspace(0, 3, model.grid.num_pixels)
        waves = [torch.sin((k + 1) * phase) / (k + 1) for k in range(section.latent_size)]
        model.decoder.set_linear(1 + 0.1 * phase, torch.stack(waves))
    return model


def loss_and_gradients(model, batch, step=0):
    model.zero_grad()
    torch.manual_seed(7)
    sums = model(batch, step)
    sums["loss_sum"].backward()
    return sums, [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("garbage", [1e30, -1e30, float("nan"), float("inf")])
def test_masked_pixels_never_reach_loss_latents_or_gradients(section, garbage):
    model, batch = make_model(section), make_batch()
    dirty = batch.replace(flux=torch.where(batch.ivar > 0, batch.flux, garbage))
    clean_sums, clean_gradients = loss_and_gradients(model, batch)
    dirty_sums, dirty_gradients = loss_and_gradients(model, dirty)
    for name in clean_sums:
        assert torch.equal(clean_sums[name], dirty_sums[name]), name
    assert all(torch.equal(a, b) for a, b in zip(clean_gradients, dirty_gradients, strict=True))
    model.eval()
    assert torch.equal(model.encode(batch)[0], model.encode(dirty)[0])


def test_hidden_pixels_do_not_reach_the_encoder_but_stay_in_the_loss(section):
    model, batch = make_model(section).eval(), make_batch()
    visible = torch.ones(len(batch), L, dtype=torch.bool)
    visible[:, 100:160] = False
    hidden = batch.replace(visible=visible)
    changed = hidden.replace(flux=torch.where(visible, hidden.flux, hidden.flux + 3))
    assert torch.equal(model.encode(hidden)[0], model.encode(changed)[0])
    assert not torch.equal(model.encode(batch)[0], model.encode(hidden)[0])
    torch.manual_seed(0)
    before = model(hidden)
    torch.manual_seed(0)
    after = model(changed)
    assert torch.equal(before["weight_sum"], after["weight_sum"])
    assert not torch.equal(before["chi2_sum"], after["chi2_sum"])


def test_padding_and_rejected_rows_add_exactly_nothing(section):
    model, batch = make_model(section), make_batch(4)
    zeros = torch.zeros(2, L)
    padded = SpectraBatch(
        flux=torch.cat([batch.flux, zeros]),
        ivar=torch.cat([batch.ivar, zeros]),
        wavelength_aa=WAVELENGTH,
        redshift=torch.cat([batch.redshift, torch.tensor([0.0, float("nan")])]),
        target_id=torch.cat([batch.target_id, torch.tensor([-1, -1])]),
        row=torch.cat([batch.row, torch.tensor([-1, -1])]),
    )
    model.eval()
    torch.testing.assert_close(model.encode(padded)[0][:4], model.encode(batch)[0])
    sums, gradients = loss_and_gradients(model, padded)
    assert sums["num_samples"] == 4
    assert sums["weight_sum"] == (batch.ivar > 0).sum()
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_batch_of_padding_alone_gives_zero_loss_and_zero_gradients(section):
    model, batch = make_model(section), make_batch(3)
    nothing = batch.replace(ivar=torch.zeros_like(batch.ivar), flux=torch.zeros_like(batch.flux))
    sums, gradients = loss_and_gradients(model, nothing)
    assert all(float(value.detach()) == 0.0 for value in sums.values())
    assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in gradients)


def test_sums_of_two_halves_are_the_sums_of_the_whole(section):
    """The loss of a global batch may not depend on how it is cut into micro-batches (dropout and noise off)."""
    model, batch = make_model(section.model_copy(update={"beta": 0.7})), make_batch(6)
    model.encoder.log_variance.bias.data.fill_(-200.0)  # no noise on the latents to speak of

    def part(rows):
        return batch.replace(flux=batch.flux[rows], ivar=batch.ivar[rows], redshift=batch.redshift[rows])

    whole, halves = model(batch), [model(part(slice(0, 2))), model(part(slice(2, 6)))]
    for name, value in whole.items():
        torch.testing.assert_close(value, halves[0][name] + halves[1][name], rtol=2e-3, atol=1e-3)
    assert set(model.metrics({name: value.item() for name, value in whole.items()})) == {"loss", "chi2", "kl"}


def test_loss_is_half_chi2_plus_beta_times_kl():
    section = SMALL.model_copy(update={"beta": 0.5, "beta_warmup_steps": 10})
    model, batch = make_model(section), make_batch()
    for step, beta in ((0, 0.0), (5, 0.25), (10, 0.5), (1000, 0.5)):
        sums = model(batch, step)
        torch.testing.assert_close(sums["loss_sum"], 0.5 * sums["chi2_sum"] + beta * sums["kl_sum"])
        assert model.beta_at(step) == beta


def test_a_robust_loss_counts_a_bad_spectrum_by_the_logarithm_of_its_chi2():
    model, batch = make_model(SMALL.model_copy(update={"robust": 3.0, "beta": 0.0})).eval(), make_batch(2)
    model.encoder.log_variance.bias.data.fill_(-200.0)
    reconstruction, _ = model.reconstruct(batch)
    chi2 = (batch.ivar * (batch.flux - reconstruction).square()).sum(dim=1)
    scale = 3.0 * (batch.ivar > 0).sum(dim=1)
    sums = model(batch)
    torch.testing.assert_close(sums["loss_sum"], 0.5 * (scale * torch.log1p(chi2 / scale)).sum(), rtol=1e-3, atol=0)
    torch.testing.assert_close(sums["chi2_sum"], chi2.sum().detach(), rtol=1e-3, atol=0)


def test_refined_latents_never_fit_worse(section):
    model, batch = make_model(section).eval(), make_batch(16, snr=30.0)
    torch.nn.init.normal_(model.decoder.output.weight, std=0.1)
    misfit = []
    for steps in (0, 1, 4):
        latents, reconstruction, covered = model.describe(batch, steps)
        weight = torch.where(covered, batch.ivar, 0)
        chi2 = (weight * (batch.flux - reconstruction).square()).sum(dim=1)
        misfit.append((chi2 + latents.square().sum(dim=1)).detach())
    assert bool((misfit[1] <= misfit[0] * (1 + 1e-6)).all())
    assert bool((misfit[2] <= misfit[1] * (1 + 1e-6)).all())
    assert float((misfit[1] / misfit[0]).median()) < 0.95


def test_a_section_that_sizes_convolutions_alone_means_what_it_meant_before():
    read = SpectralVAESection.model_validate({"encoder_channels": [8, 16], "encoder_kernels": [5, 7]})
    assert (read.encoder, read.start, read.robust, read.refine) == ("convolutional", "random", None, 0)
    assert (read.encoder_hidden, read.decoder_hidden, read.rest_oversampling) == ([128, 64, 32], [64, 256, 1024], 1)
    assert SpectralVAESection.model_validate_json(read.model_dump_json()) == read


def test_kl_is_that_of_two_normal_distributions(section):
    model, batch = make_model(section), make_batch()
    mean, log_variance = model.encode(batch)
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(model(batch)["kl_sum"], expected.detach(), rtol=1e-4, atol=1e-4)


def test_chi2_of_a_perfect_decoder_is_one_per_valid_pixel():
    """Honest noise about what the decoder says has chi-square 1, whatever the normalisation."""
    model = make_model(SMALL.model_copy(update={"latent_size": 1})).eval()
    model.decoder.output.weight.data.zero_()
    generator = torch.Generator().manual_seed(3)
    ivar = 10 ** (4 * torch.rand(64, L, generator=generator) - 2)
    flux = 1 + torch.randn(64, L, generator=generator) / ivar.sqrt()
    ids = torch.arange(64)
    batch = SpectraBatch(flux, ivar, WAVELENGTH, torch.full((64,), 0.5), ids, ids)
    sums = {name: value.item() for name, value in model(batch).items()}
    assert model.metrics(sums)["chi2"] == pytest.approx(1.0, abs=3 * (2 / sums["weight_sum"]) ** 0.5)


def test_pixels_the_rest_grid_does_not_reach_carry_no_weight():
    section = SMALL.model_copy(update={"rest_wavelength_aa": (2500.0, 4000.0)})
    model, batch = make_model(section), make_batch()
    rest = WAVELENGTH / (1 + batch.redshift[:, None])
    expected = ((batch.ivar > 0) & (rest >= 2500.0) & (rest <= 4000.0)).sum()
    assert abs(int(model(batch)["weight_sum"]) - int(expected)) <= len(batch)
    _, covered = model.reconstruct(batch)
    far = batch.replace(flux=torch.where(covered, batch.flux, 1e6))
    torch.manual_seed(0)
    seen_twice = model.reconstruct(far)[1]
    assert torch.equal(covered, seen_twice)


def test_huge_flux_with_little_weight_stays_finite(section):
    model, batch = make_model(section), make_batch()
    flux, ivar = batch.flux.clone(), batch.ivar.clone()
    flux[0, 10], ivar[0, 10] = 1e18, 1e-34
    flux[1, 20], ivar[1, 20] = 1e4, 1e6  # a cosmic ray nobody masked
    sums, gradients = loss_and_gradients(model, batch.replace(flux=flux, ivar=ivar))
    assert bool(torch.isfinite(sums["loss_sum"]))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_bf16_autocast_keeps_the_loss_in_float32_and_near_the_fp32_one(section):
    model, batch = make_model(section), make_batch()
    model.eval()
    torch.manual_seed(1)
    exact = model(batch)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(batch)
    assert all(value.dtype == torch.float32 for value in rough.values())
    torch.testing.assert_close(rough["loss_sum"], exact["loss_sum"], rtol=0.05, atol=0)


def test_gradient_checkpointing_changes_no_number(section):
    plain, batch = make_model(section), make_batch()
    saving = copy.deepcopy(plain)
    saving.enable_gradient_checkpointing()
    plain_sums, plain_gradients = loss_and_gradients(plain, batch)
    saving_sums, saving_gradients = loss_and_gradients(saving, batch)
    assert torch.equal(plain_sums["loss_sum"], saving_sums["loss_sum"])
    for a, b in zip(plain_gradients, saving_gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_same_seed_gives_the_same_bits(section):
    first, second = make_model(section, seed=5), make_model(section, seed=5)
    batch = make_batch()
    a, b = loss_and_gradients(first, batch), loss_and_gradients(second, batch)
    assert torch.equal(a[0]["loss_sum"], b[0]["loss_sum"])
    assert all(torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True))


def test_masked_norm_without_a_mask_is_instance_norm():
    x = torch.randn(3, 4, 50, generator=torch.Generator().manual_seed(0))
    ours = MaskedInstanceNorm(4)(x, torch.ones(3, 1, 50, dtype=torch.bool))
    torch.testing.assert_close(ours, torch.nn.functional.instance_norm(x), rtol=1e-4, atol=1e-5)


def test_masked_norm_looks_at_valid_pixels_only():
    x = torch.randn(2, 4, 50, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 1, 50, dtype=torch.bool)
    mask[:, :, 30:] = False
    ours = MaskedInstanceNorm(4)(x, mask)[..., :30]
    torch.testing.assert_close(ours, torch.nn.functional.instance_norm(x[..., :30]), rtol=1e-4, atol=1e-5)


def test_the_older_default_has_the_size_of_spender_on_the_desi_grid_and_todays_a_tenth():
    facts = SpectraFacts(num_pixels=7781, wavelength_aa=(3600.0, 9824.0), redshift_min=0.0, redshift_max=0.8)
    older = SpectralVAESection(rest_pixels=9780, encoder_channels=[128, 256, 512])
    sizes = []
    for section in (older, SpectralVAESection(rest_pixels=9780)):
        model = SpectralVAE(section, facts)
        sizes.append([sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.decoder)])
    assert sizes[0][0] == pytest.approx(3.16e6, rel=0.02)
    assert sizes[0][1] == pytest.approx(10.33e6, rel=0.02)
    assert sum(sizes[1]) < 0.1 * sum(sizes[0])


@pytest.mark.parametrize("num_pixels", [16, 64, 301])
@pytest.mark.parametrize("kernels", [[5, 11, 21], [4, 6, 2]])
def test_short_spectra_and_even_kernels_work(num_pixels, kernels):
    wavelength = torch.linspace(4000.0, 9000.0, num_pixels)
    facts = SpectraFacts(num_pixels, (4000.0, 9000.0), 0.0, 0.5)
    section = SMALL.model_copy(update={"encoder_channels": [4, 8, 8], "encoder_kernels": kernels})
    model = SpectralVAE(section, facts)
    ids = torch.arange(2)
    flux = torch.ones(2, num_pixels)
    batch = SpectraBatch(flux, flux, wavelength, torch.tensor([0.1, 0.3]), ids, ids)
    assert bool(torch.isfinite(model(batch)["loss_sum"]))
    assert model.reconstruct(batch)[0].shape == (2, num_pixels)


def test_lists_that_do_not_fit_are_all_reported():
    section = SMALL.model_copy(update={"encoder_channels": [8, 15], "encoder_kernels": [5]})
    with pytest.raises(ProfileError) as caught:
        SpectralVAE(section, FACTS)
    assert "model.encoder_kernels: has 1 values, encoder_channels has 2" in str(caught.value)
    assert "model.encoder_channels: ends with 15, which is odd" in str(caught.value)


@pytest.mark.slow
def test_training_gets_far_below_the_mean_spectrum_on_objects_never_seen():
    torch.manual_seed(0)
    model, train, held_out = make_model(), make_batch(256, seed=1), make_batch(64, seed=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(150):
        rows = torch.randint(0, 256, (64,))
        batch = train.replace(flux=train.flux[rows], ivar=train.ivar[rows], redshift=train.redshift[rows])
        sums = model(batch, step)
        optimizer.zero_grad()
        (sums["loss_sum"] / sums["weight_sum"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    reconstruction, _ = model.reconstruct(held_out)
    valid = held_out.ivar > 0

    def chi2(fit):
        return float(((held_out.flux - fit).square() * held_out.ivar)[valid].mean())

    mean = train.flux.mean()
    assert chi2(reconstruction.detach()) < 0.1 * chi2(mean)
