"""A batch of spectra of any values, for the memory estimate."""

from __future__ import annotations

import torch

from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.facts import SpectraFacts


def fake_batch(facts: SpectraFacts, num_spectra: int) -> SpectraBatch:
    """Return a normalised batch whose spectra are all 1."""
    shape = (num_spectra, facts.num_pixels)
    return SpectraBatch(
        flux=torch.ones(shape),
        ivar=torch.ones(shape),
        wavelength_aa=torch.linspace(*facts.wavelength_aa, facts.num_pixels),
        redshift=torch.zeros(num_spectra),
        target_id=torch.zeros(num_spectra, dtype=torch.int64),
        row=torch.zeros(num_spectra, dtype=torch.int64),
        norm=torch.ones(num_spectra),
        window=torch.zeros(num_spectra, dtype=torch.int8),
        num_bad=torch.zeros(num_spectra, dtype=torch.int32),
        has_weight=torch.ones(num_spectra, dtype=torch.bool),
    )
