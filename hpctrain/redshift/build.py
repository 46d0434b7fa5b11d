"""Make templates from spectra with known redshift and class, and from simulated ones. K components, R rest pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

import hpctrain
from hpctrain.errors import DataError
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.grids import DESI_FIRST_AA, DESI_NUM_PIXELS, DESI_STEP_AA
from hpctrain.kinds.spectra.pca import WeightedPCA
from hpctrain.kinds.spectra.rest_grid import RestGrid
from hpctrain.redshift.log_grid import choose_step, pixel_width
from hpctrain.redshift.templates import Template, Templates
from hpctrain.redshift.training import TrainingSet, simulation_for, training_sets

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.hdf5 import SpectraSet

PHYSICAL = {"STAR": (-0.005, 0.005), "GALAXY": (-0.005, 1.7), "QSO": (0.05, 6.0)}
"""Ranges of redshift of the classes: none is searched beyond."""

MARGIN = 0.1
"""Margin of the range of redshifts beyond that of the training spectra, in ln(1 + z)."""

FEWEST_SPECTRA = 8
"""Smallest number of spectra from which templates of a class are made."""

SPECTRA_PER_COMPONENT = 4
MIN_COVERING = 2
"""Smallest number of training spectra that cover a rest-frame pixel; the template ends where there are fewer."""

NUM_COMPONENTS, NUM_SIMULATED, SEED = 5, 1000, 9
"""Defaults: components of a class, simulated spectra of each class, seed of the simulation."""

NUM_ROUNDS = 30
"""Largest number of rounds of the fit of the components."""


def build_templates(
    sets: Sequence[SpectraSet],
    *,
    wavelength_aa: np.ndarray | None = None,
    num_components: int = NUM_COMPONENTS,
    num_simulated: int = NUM_SIMULATED,
    seed: int = SEED,
) -> tuple[Templates, list[str]]:
    """Make templates of all classes that the data have.

    Parameters
    ----------
    sets : sequence of SpectraSet
        Spectra with redshifts and a column of classes (``spectype``); those with a redshift warning are left out.
    wavelength_aa : ndarray, shape (L,), optional
        Grid of the spectra whose redshifts are wanted, which decides the resolution; by default that of the first set,
        or of DESI.
    num_components : int
        K; a class of few spectra gets fewer.
    num_simulated : int
        Number of simulated quasars, and of galaxies, to add; 0 adds none.
    seed : int
        Seed of the simulation.

    Returns
    -------
    templates : Templates
    notes : list of str
        Classes that have too few spectra.

    Raises
    ------
    DataError
        There is no class with enough spectra, or a file has no classes.
    """
    if wavelength_aa is None and sets and sets[0].wavelength_aa is not None:
        wavelength_aa = sets[0].wavelength_aa
    if wavelength_aa is None:
        wavelength_aa = DESI_FIRST_AA + DESI_STEP_AA * np.arange(DESI_NUM_PIXELS)
    section = simulation_for(wavelength_aa, num_simulated, seed)
    classes = training_sets(sets, section, num_simulated)
    step = choose_step(wavelength_aa)
    made, notes = _make_all(classes, step, num_components)
    provenance = {
        "hpctrain_version": hpctrain.__version__,
        "files": [file["path"] for spectra in sets for file in spectra.fingerprint()["files"]],
        "simulate": section.model_dump(mode="json") if num_simulated else None,
        "num_components": num_components,
        "spectra": {name: classes[name].counts for name in sorted(classes)},
    }
    return Templates(step, pixel_width(wavelength_aa), made, provenance), notes


def _make_all(classes: Mapping[str, TrainingSet], step: float, num_components: int) -> tuple[list[Template], list[str]]:
    """Return templates of the classes with enough spectra, and a note for each other one."""
    few = [name for name in sorted(classes) if len(classes[name]) < FEWEST_SPECTRA]
    notes = [f"class {name}: {len(classes[name])} spectra are too few for templates ({FEWEST_SPECTRA})" for name in few]
    if len(few) == len(classes):
        raise DataError("\n".join(["no class has enough spectra for templates", *notes]))
    return [_make(name, classes[name], step, num_components) for name in sorted(classes) if name not in few], notes


def _make(name: str, training: TrainingSet, step: float, num_components: int) -> Template:
    """Fit mean and components of one class."""
    redshift = torch.cat([batch.redshift for batch in training.batches]).double()
    lowest, highest = float(redshift.min()), float(redshift.max())
    first, last = _extent(training.batches)
    grid = RestGrid(step * first_pixel(first, step), step, first_pixel(last, step) - first_pixel(first, step) + 2)
    size = min(num_components, max(0, len(training) // SPECTRA_PER_COMPONENT - 1))
    pca = WeightedPCA.fit(training.repeated, grid, size, num_iterations=NUM_ROUNDS)
    covered = torch.nonzero(_coverage(training.batches, grid) >= MIN_COVERING)[:, 0]
    start, stop = int(covered[0]), int(covered[-1]) + 1
    basis = torch.cat([pca.mean[None], pca.basis]).double().numpy()[:, start:stop]
    low, high = PHYSICAL.get(name, (-0.005, 10.0))
    stretch = math.exp(MARGIN)
    return Template(
        name=name,
        first=first_pixel(first, step) + start,
        basis=np.ascontiguousarray(basis),
        redshift_min=low if name == "STAR" else max(low, (1 + lowest) / stretch - 1),
        redshift_max=high if name == "STAR" else min(high, (1 + highest) * stretch - 1),
        num_spectra=len(training),
    )


def first_pixel(log_wavelength: float, step: float) -> int:
    """Return the number of the pixel at or below a wavelength [ln AA]."""
    return math.floor(log_wavelength / step)


def _extent(batches: list[SpectraBatch]) -> tuple[float, float]:
    """Return first and last rest wavelength of the spectra [ln AA]."""
    ends = [
        torch.log(batch.wavelength_aa.double()[..., column]) - torch.log1p(batch.redshift.double())
        for batch in batches
        for column in (0, -1)
    ]
    return min(float(end.min()) for end in ends), max(float(end.max()) for end in ends)


def _coverage(batches: list[SpectraBatch], grid: RestGrid) -> torch.Tensor:
    """Return how many spectra have weight at both sides of each rest-frame pixel, shape (R,)."""
    count = torch.zeros(grid.num_pixels + 1, dtype=torch.int64)
    for batch in batches:
        position = grid.position(batch.wavelength_aa, batch.redshift)
        valid = batch.ivar > 0
        first = torch.where(valid, position, torch.inf).amin(dim=1).ceil()
        last = torch.where(valid, position, -torch.inf).amax(dim=1).floor()
        for low, high in zip(first.tolist(), last.tolist(), strict=True):
            if low <= high:
                count[max(0, int(low))] += 1
                count[min(grid.num_pixels - 1, int(high)) + 1] -= 1
    return count.cumsum(0)[:-1]
