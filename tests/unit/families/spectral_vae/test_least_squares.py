"""The linear algebra of encoder and refinement, against that of torch."""

import torch

from hpctrain.families.spectral_vae.decoder import SpectrumDecoder
from hpctrain.families.spectral_vae.least_squares import invert, posterior


def problem(num_spectra: int, num_pixels: int, size: int, snr: float):
    generator = torch.Generator().manual_seed(1)
    design = torch.randn(num_spectra, num_pixels, size, generator=generator)
    design *= 10.0 ** -torch.arange(size)  # components as unequal as those of spectra
    weight = torch.full((num_spectra, num_pixels), snr**2) * torch.rand(num_spectra, num_pixels, generator=generator)
    weight[:, ::7] = 0
    truth = torch.randn(num_spectra, size, generator=generator)
    noise = torch.randn(num_spectra, num_pixels, generator=generator) / weight.clamp(min=1e-12).sqrt()
    return design, (design @ truth[..., None])[..., 0] + torch.where(weight > 0, noise, 1e30), weight


def exact(design, residual, weight):
    design, weight = design.double(), weight.double()
    residual = torch.where(weight > 0, residual, 0).double()
    normal = design.transpose(1, 2) @ (design * weight[..., None]) + torch.eye(design.shape[2]).double()
    right = (design * (weight * residual)[..., None]).sum(dim=1)
    return torch.linalg.solve(normal, right), torch.linalg.inv(normal).diagonal(dim1=1, dim2=2).sqrt()


def test_scores_and_errors_are_those_of_an_exact_solution():
    design, residual, weight = problem(20, 500, 4, snr=30.0)
    scores, errors = posterior(design, residual, weight)
    expected, expected_errors = exact(design, residual, weight)
    torch.testing.assert_close(errors.double(), expected_errors, rtol=1e-3, atol=1e-6)
    assert float(((scores - expected).abs() / expected_errors).max()) < 0.02  # a small share of the noise


def test_a_spectrum_without_weight_gets_the_prior():
    design, residual, weight = problem(3, 50, 3, snr=5.0)
    scores, errors = posterior(design, residual, torch.zeros_like(weight))
    torch.testing.assert_close(scores, torch.zeros(3, 3))
    torch.testing.assert_close(errors, torch.ones(3, 3))


def test_the_inverse_of_badly_scaled_matrices_is_precise():
    generator = torch.Generator().manual_seed(2)
    root = torch.randn(50, 10, 40, generator=generator) * 10.0 ** torch.linspace(3, -1, 10)[:, None]
    normal = root @ root.transpose(1, 2) + torch.eye(10)
    expected = torch.linalg.inv(normal.double())
    scale = expected.diagonal(dim1=1, dim2=2).sqrt()
    error = (invert(normal) - expected).abs() / (scale[:, :, None] * scale[:, None, :])
    assert float(error.max()) < 1e-3


def test_slopes_of_the_decoder_are_its_derivatives():
    torch.manual_seed(0)
    for linear in (True, False):
        decoder = SpectrumDecoder(3, [8, 9], 40, linear=linear)
        torch.nn.init.normal_(decoder.output.weight)
        if linear:
            decoder.set_linear(torch.rand(40), torch.randn(3, 40))
        latents = torch.randn(5, 3)
        flux, slopes = decoder.linearise(latents)
        torch.testing.assert_close(flux, decoder(latents))
        expected = torch.stack([torch.autograd.functional.jacobian(decoder, row[None])[0, :, 0] for row in latents])
        torch.testing.assert_close(slopes, expected.transpose(1, 2), rtol=1e-4, atol=1e-5)
