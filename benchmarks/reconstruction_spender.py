"""Train spender on spectra of benchmarks/reconstruction.py. Runs in a Python of its own, which needs spender and torch.

    PYTHON benchmarks/reconstruction_spender.py IN.npz OUT.npz LATENT_SIZE SECONDS SEED

IN.npz holds the normalised spectra to train on and the held-out ones, and the rest-frame grid. OUT.npz gets spender's
reconstruction of the held-out ones. The network is spender's own with its own sizes, and so is the loss, the one
without augmentation. Adam's rate rises to 1e-3 and falls again in one cycle, which fits into SECONDS. Batches of 128
give spender four times the updates in that time that its usual 512 would.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import spender
import torch
from torch import Tensor

RATE = 1e-3
BATCH = 128
PIECE = 64
"""Spectra of one pass: a batch of spender's convolutions takes gigabytes, so its gradient is a sum over pieces."""


def main() -> None:
    """Train, reconstruct and write."""
    source, out, latent_size, seconds, seed = sys.argv[1:]
    data = np.load(source)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(int(seed))
    instrument = spender.Instrument(torch.as_tensor(data["wavelength_aa"], dtype=torch.float32))
    rest = torch.as_tensor(data["rest_wavelength_aa"], dtype=torch.float32)
    model = spender.SpectrumAutoencoder(instrument, rest, n_latent=int(latent_size)).to(device)
    flux, ivar, redshift = (torch.as_tensor(data[f"train_{name}"]).to(device) for name in ("flux", "ivar", "redshift"))
    steps = train(model, flux, ivar, redshift, float(seconds), int(seed))
    flux, redshift = (torch.as_tensor(data[f"held_out_{name}"]).to(device) for name in ("flux", "redshift"))
    np.savez(
        out,
        reconstruction=reconstruct(model, flux, redshift),
        version=spender.__version__,
        steps=steps,
        epochs=steps * BATCH / len(data["train_flux"]),
        weights=model.n_parameter,
    )


def train(
    model: spender.SpectrumAutoencoder, flux: Tensor, ivar: Tensor, redshift: Tensor, seconds: float, seed: int
) -> int:
    """Train for a time; the place in the cycle of the rate is the share of the time that is over. Return the steps."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=1001)
    start, steps, place = time.monotonic(), 0, 0
    model.train()
    while (share := (time.monotonic() - start) / seconds) < 1:
        while place < int(1000 * share):
            cycle.step()
            place += 1
        rows = torch.randperm(len(flux), generator=generator)[:BATCH].to(flux.device)
        optimizer.zero_grad()
        for piece in rows.split(PIECE):
            loss = model.loss(flux[piece], ivar[piece], model.encoder.instrument, z=redshift[piece])
            (loss / len(rows)).backward()
        optimizer.step()
        steps += 1
    return steps


@torch.no_grad()
def reconstruct(model: spender.SpectrumAutoencoder, flux: Tensor, redshift: Tensor) -> np.ndarray:
    """Return the reconstruction of normalised spectra, (N, L) float32."""
    model.eval()
    pieces = zip(flux.split(PIECE), redshift.split(PIECE), strict=True)
    instrument = model.encoder.instrument
    return torch.cat([model(y, instrument, z=z) for y, z in pieces]).float().cpu().numpy()


if __name__ == "__main__":
    main()
