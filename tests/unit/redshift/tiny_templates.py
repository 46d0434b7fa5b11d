"""Templates of two classes that are made by hand, and spectra that they describe exactly. N spectra, L pixels."""

from __future__ import annotations

import numpy as np
import torch

from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.redshift.templates import Template, Templates

STEP = 1e-3
FIRST, LAST = 7300, 9200
"""Rest frame: 1480 to 9897 AA."""

QUASAR_LINES = (1549.0, 1909.0, 2799.0, 4862.0)
GALAXY_LINES = (3728.0, 4341.0, 5008.0, 6565.0)


def _line(center_aa: float, width: float) -> np.ndarray:
    ln = STEP * np.arange(FIRST, LAST + 1)
    return np.exp(-0.5 * ((ln - np.log(center_aa)) / width) ** 2)


def _basis(lines: tuple[float, ...], width: float, slope: float) -> np.ndarray:
    ln = STEP * np.arange(FIRST, LAST + 1)
    middle = ln - ln.mean()
    mean = np.exp(slope * middle) + sum(1.5 * _line(each, width) for each in lines)
    return np.stack([mean, 0.3 * middle, 0.4 * sum(_line(each, width) for each in lines[::2])])


TEMPLATES = Templates(
    step=STEP,
    pixel=STEP,
    classes=[
        Template("GALAXY", FIRST, _basis(GALAXY_LINES, 0.002, 0.8), 0.0, 0.9, 100),
        Template("QSO", FIRST, _basis(QUASAR_LINES, 0.015, -0.6), 0.3, 1.4, 100),
    ],
    provenance={"made": "by hand"},
)

WAVELENGTH = np.exp(STEP * np.arange(8200, 9140))
"""3641 to 9324 AA, on the pixels of the log grid."""


def model(number: int, redshift: np.ndarray, scores: np.ndarray, wavelength: np.ndarray = WAVELENGTH) -> np.ndarray:
    """Return spectra (N, L) of one class, with scores (N, 2)."""
    template = TEMPLATES.classes[number]
    ln = STEP * np.arange(FIRST, LAST + 1)
    weights = np.column_stack([np.ones(len(scores)), scores])
    rest = np.log(wavelength)[None] - np.log1p(redshift)[:, None]
    return np.stack([np.interp(place, ln, row) for place, row in zip(rest, weights @ template.basis, strict=True)])


def batch_of(flux: np.ndarray, ivar: np.ndarray, wavelength: np.ndarray = WAVELENGTH) -> SpectraBatch:
    """Return spectra as the reader returns them, without redshifts."""
    rows = torch.arange(len(flux))
    return SpectraBatch(
        flux=torch.from_numpy(flux.astype(np.float32)),
        ivar=torch.from_numpy(ivar.astype(np.float32)),
        wavelength_aa=torch.from_numpy(wavelength.astype(np.float32)),
        redshift=torch.zeros(len(flux)),
        target_id=rows,
        row=rows,
    )


def noisy(num: int, snr: float, seed: int) -> tuple[SpectraBatch, np.ndarray, np.ndarray]:
    """Return spectra of both classes, 12 times as bright as the templates, with their redshifts and class numbers."""
    rng = np.random.default_rng(seed)
    number = np.arange(num) % 2
    redshift = np.where(number == 0, rng.uniform(0.05, 0.8, num), rng.uniform(0.4, 1.3, num))
    scores = rng.normal(size=(num, 2))
    each = (model(c, redshift[i : i + 1], scores[i : i + 1]) for i, c in enumerate(number))
    flux = 12.0 * np.concatenate(list(each))
    ivar = np.full(flux.shape, (snr / 12.0) ** 2)
    return batch_of(flux + rng.normal(size=flux.shape) / np.sqrt(ivar), ivar), redshift, number
