"""Results of a large run, as arrays: quasars of DESI's length, odd ones, and the latents of thousands."""

from __future__ import annotations

import h5py
import numpy as np

from hpctrain.rundir import RunDir


def make_spectra(num_spectra: int, num_pixels: int, seed: int = 3) -> dict[str, np.ndarray]:
    """Return quasars with noise, in the format of ``results/reconstructions.npz``."""
    rng = np.random.default_rng(seed)
    wavelength_aa = np.linspace(3600.0, 9824.0, num_pixels)
    redshift = rng.uniform(0.4, 3.1, num_spectra)
    lines = (
        (1215.7, 4.0, 18),
        (1549.1, 1.6, 16),
        (1908.7, 0.9, 22),
        (2799.1, 0.9, 20),
        (4862.7, 0.7, 25),
        (5008.2, 0.8, 4),
        (6564.6, 2.4, 30),
    )
    model = np.empty((num_spectra, num_pixels))
    for row, z in enumerate(redshift):
        rest = wavelength_aa / (1 + z)
        model[row] = (rest / 2600) ** rng.uniform(-1.7, -0.7)
        for centre, height, width in lines:
            model[row] += (
                height * rng.uniform(0.4, 1.3) * np.exp(-0.5 * ((rest - centre) / width) ** 2) * (2600 / centre) ** 0.6
            )
    sky = 1 + 3 * (rng.random(num_pixels) > 0.985) + 1.5 * (wavelength_aa > 8300) * rng.random(num_pixels)
    ivar = np.broadcast_to(1 / (0.32 * sky) ** 2, model.shape).copy()
    ivar[:, num_pixels // 3 : num_pixels // 3 + num_pixels // 90] = 0
    flux = np.where(ivar > 0, model + rng.normal(size=model.shape) / np.sqrt(np.where(ivar > 0, ivar, 1)), 0)
    flux[0, num_pixels // 2] += 9
    return {
        "wavelength_aa": wavelength_aa.astype(np.float32), "flux": flux.astype(np.float32),
        "ivar": ivar.astype(np.float32),
        "reconstruction": (model * (1 + 0.01 * np.sin(wavelength_aa / 300))).astype(np.float32),
        "covered": np.broadcast_to(wavelength_aa > 3680, model.shape).copy(), "redshift": redshift.astype(np.float32),
        "target_id": 39627835576420141 + 977 * np.arange(num_spectra), "chi2": np.ones(num_spectra, np.float32),
        "norm": np.full(num_spectra, 3.2, np.float32), "step": np.int64(18_000),
    }  # fmt: skip


def make_scores() -> dict[str, np.ndarray]:
    """Return scores of three unusual spectra, one for each reason."""
    return {
        "anomaly_score": np.array([4.1, 3.3, 2.2], np.float32), "local_chi2": np.array([9.0, 1.0, 3.0], np.float32),
        "latent_density": np.array([-8.0, -31.0, -20.0], np.float32), "anomaly_reason": np.array([1, 2, 3], np.uint8),
        "snr": np.array([4.0, 7.0, 2.0], np.float32),
    }  # fmt: skip


def make_residuals() -> dict[str, np.ndarray]:
    """Return sums of residuals, in the format of ``results/residuals.npz``: noise, and a line that is not learned."""
    rng, found = np.random.default_rng(9), {"num_spectra": np.int64(4096)}
    edges = {"observed": np.linspace(3600, 9824, 241), "rest": np.geomspace(900, 9000, 481)}
    for axis, values in edges.items():
        count = np.full(len(values) - 1, 5000.0)
        pull = rng.normal(size=len(count)) * np.sqrt(count) + 1500 * ((values[:-1] < 2799) & (values[1:] > 2799))
        found |= {f"{axis}_edges_aa": values, f"{axis}_count": count, f"{axis}_pull": pull, f"{axis}_chi2": 1.1 * count}
    return found


def write_results(run: RunDir, num_spectra: int = 4, num_pixels: int = 7781) -> None:
    run.results.mkdir(exist_ok=True)
    np.savez(run.results / "reconstructions.npz", **make_spectra(num_spectra, num_pixels))
    anomalies = make_spectra(3, num_pixels, seed=8)
    anomalies["flux"][:, num_pixels // 2 : num_pixels // 2 + num_pixels // 25] *= 2.2
    np.savez(run.results / "anomalies.npz", **anomalies, **make_scores())
    np.savez(run.results / "residuals.npz", **make_residuals())
    rng = np.random.default_rng(4)
    redshift = rng.gamma(4, 0.42, 9700).astype(np.float32)
    latents = rng.normal(size=(9700, 10)) * np.linspace(2, 0.4, 10) + np.outer(redshift, np.sin(np.arange(10)))
    latents[:40] *= 3
    latents[100:120] = np.nan
    with h5py.File(run.results / "latents.h5", "w") as file:
        file["LATENT_VEC"], file["redshift"] = latents.astype(np.float16), redshift
        file["RECON_MSE"] = rng.normal(1.02, 0.035, 9700).astype(np.float32) + 0.2 * (rng.random(9700) > 0.97)
        file["ANOMALY_SCORE"] = (0.2 * np.abs(np.nan_to_num(latents)).sum(1) / 5).astype(np.float32)
        file["LOCAL_CHI2"] = rng.normal(size=9700).astype(np.float32)
        file["SNR"] = rng.lognormal(1.0, 0.8, 9700).astype(np.float32)
        file["target_id"] = np.arange(9700)
