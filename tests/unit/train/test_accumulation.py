"""An update of 64 spectra at once and one of 8 times 8 have the same gradient, however uneven their masks."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.world import World
from hpctrain.families.spectral_vae.network import SpectralVAE
from hpctrain.kinds.spectra.facts import SpectraFacts
from hpctrain.kinds.spectra.hdf5 import open_spectra
from hpctrain.kinds.spectra.kind import KIND
from hpctrain.profile.families import profile_class
from hpctrain.train.build import build_optimizer
from hpctrain.train.pacing import FullSpeed
from hpctrain.train.scaling import LossScale
from hpctrain.train.schedule import Schedule
from hpctrain.train.step import UpdateStep

MODEL = {
    "latent_size": 3,
    "encoder_channels": [4, 8],
    "encoder_kernels": [5, 5],
    "encoder_hidden": [16],
    "decoder_hidden": [16],
}


@pytest.fixture
def uneven(tmp_path, simulated_file):
    """64 spectra of which the first have nearly no valid pixel: means of means would be far off."""
    path = tmp_path / "uneven.h5"
    with h5py.File(simulated_file) as source, h5py.File(path, "w") as file:
        for name in ("flux", "ivar", "target_id", "redshift"):
            file[name] = source[name][:64]
        file["wavelength"] = source["wavelength"][:]
        rng = np.random.default_rng(0)
        ivar = file["ivar"][:]
        for row in range(16):
            ivar[row, rng.random(ivar.shape[1]) < 0.9] = 0
        ivar[20] = 0
        file["ivar"][:] = ivar
    return path


def gradient(path, batch_size, accumulation):
    profile = profile_class()(
        name="same",
        launch={"gpus_per_node": 0, "ranks_per_node": 1},
        data={"files": [str(path)], "normalise": {"min_snr": 0.0}},
        model=MODEL,
        train={"batch_size": batch_size, "accumulation": accumulation, "clip_norm": None, "device": "cpu"},
    )
    spectra = open_spectra(profile.data)
    torch.manual_seed(1)
    model = SpectralVAE(profile.model, SpectraFacts.from_spectra(spectra, np.arange(64)))
    optimizer = build_optimizer(model, profile.train)
    world = World.from_environment()
    update = UpdateStep(
        world,
        Schedule(profile, 64),
        profile.train,
        model,
        optimizer,
        LossScale("fp32", torch.device("cpu")),
        None,
        StopRequest(deadline_s=1e12, lead_s=1.0),
        FullSpeed(),
        KIND.preparation(profile.data.card_entries),
        KIND.augmentation(profile.data),
        KIND,
        weight_per_sample=model.weight_per_sample,
    )
    batches = (spectra.read(np.arange(start, start + batch_size)) for start in range(0, 64, batch_size))
    result = update(0, batches)
    return result, torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_a_batch_of_64_and_8_times_8_have_the_same_gradient(uneven, monkeypatch):
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # what is drawn depends on the micro-batch, on purpose
    (whole, large), (parts, small) = gradient(uneven, 64, 1), gradient(uneven, 8, 8)
    assert large.norm() > 0
    assert (large - small).norm() < 1e-5 * large.norm()
    assert whole.sums["weight_sum"] == parts.sums["weight_sum"]
    assert whole.sums["loss_sum"] == pytest.approx(parts.sums["loss_sum"], rel=1e-6)
