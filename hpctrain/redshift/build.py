"""Make templates from spectra with known redshift and class, and from simulated ones. K components, R rest pixels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

import hpctrain
from hpctrain.errors import DataError
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.grids import DESI_FIRST_AA, DESI_NUM_PIXELS, DESI_STEP_AA
from hpctrain.kinds.spectra.pca import WeightedPCA
from hpctrain.kinds.spectra.rest_grid import RestGrid
from hpctrain.kinds.spectra.section import NormaliseSection, SimulateSection
from hpctrain.kinds.spectra.simulate import Simulator
from hpctrain.kinds.spectra.transform import normalise
from hpctrain.redshift.log_grid import choose_step, pixel_width
from hpctrain.redshift.templates import Template, Templates

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

REPEAT_REAL = 4
"""Weight of a spectrum from a file where simulated ones are added to it."""

NUM_COMPONENTS, NUM_SIMULATED, SEED = 5, 1000, 9
"""Defaults: components of a class, simulated spectra of each class, seed of the simulation."""

BIN_WIDTH, LARGEST_SHARE = 0.06, 0.125
"""Width of a bin in ln(1 + z), and the largest share of the simulated spectra in one: near the ends of the range there
are few objects, and the templates need the wavelengths that only these show."""

MOST_LOOKED_AT = 8
"""Largest number of simulated rows for each spectrum that is wanted of a class."""

_ROWS_AT_ONCE = 256


@dataclass
class TrainingSet:
    """Spectra of one class for the templates.

    Parameters
    ----------
    batches : list of SpectraBatch
        Normalised, with the redshift of each spectrum.
    repeats : list of int
        How often the spectra of each batch count.
    counts : dict of str to int
        Number of spectra by origin.
    """

    batches: list[SpectraBatch] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, batch: SpectraBatch, origin: str, repeat: int = 1) -> None:
        """Add the spectra that have a norm; the fit of the components counts each of them `repeat` times."""
        batch = _normalised(batch)
        if len(batch):
            self.batches.append(batch)
            self.repeats.append(repeat)
            self.counts[origin] = self.counts.get(origin, 0) + len(batch)

    @property
    def repeated(self) -> list[SpectraBatch]:
        """The batches, as often as they count."""
        return [batch for batch, repeat in zip(self.batches, self.repeats, strict=True) for _ in range(repeat)]

    def __len__(self) -> int:
        return sum(self.counts.values())


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
    step, pixel = choose_step(wavelength_aa), pixel_width(wavelength_aa)
    classes: dict[str, TrainingSet] = {}
    for spectra in sets:
        _add_real(classes, spectra, REPEAT_REAL if num_simulated else 1)
    section = _simulation(wavelength_aa, num_simulated, seed)
    if num_simulated:
        _add_simulated(classes, section, num_simulated)
    notes, made = [], []
    for name in sorted(classes):
        if len(classes[name]) < FEWEST_SPECTRA:
            notes.append(f"class {name}: {len(classes[name])} spectra are too few for templates ({FEWEST_SPECTRA})")
        else:
            made.append(_make(name, classes[name], step, num_components))
    if not made:
        raise DataError("\n".join(["no class has enough spectra for templates", *notes]))
    provenance = {
        "hpctrain_version": hpctrain.__version__,
        "files": [file["path"] for spectra in sets for file in spectra.fingerprint()["files"]],
        "simulate": section.model_dump(mode="json") if num_simulated else None,
        "num_components": num_components,
        "spectra": {name: classes[name].counts for name in sorted(classes)},
    }
    return Templates(step, pixel, made, provenance), notes


def _normalised(batch: SpectraBatch) -> SpectraBatch:
    """Return the spectra that have a norm, divided by it."""
    batch = normalise(batch, NormaliseSection())
    rows = torch.nonzero(batch.window >= 0)[:, 0]
    shared = batch.wavelength_aa.ndim == 1
    return SpectraBatch(
        flux=batch.flux[rows],
        ivar=batch.ivar[rows],
        wavelength_aa=batch.wavelength_aa if shared else batch.wavelength_aa[rows],
        redshift=batch.redshift[rows],
        target_id=batch.target_id[rows],
        row=batch.row[rows],
    )


def _add_real(classes: dict[str, TrainingSet], spectra: SpectraSet, repeat: int) -> None:
    names = spectra.read_column(("spectype", "SPECTYPE", "class", "CLASS"), "SO")
    where = spectra.fingerprint()["files"][0]["path"]
    if names is None:
        raise DataError(f"{where}: templates need a column spectype (QSO, GALAXY, STAR); its files do not all have one")
    names = np.char.upper(np.char.strip(names.astype("S16")))
    zwarn = spectra.read_column(("zwarn", "ZWARN"), "iu")
    good = spectra.has_redshift & (True if zwarn is None else zwarn <= 0)
    for name in np.unique(names[good]):
        text = name.decode("ascii", "replace")
        if text in ("", "SKY"):
            continue
        rows = np.flatnonzero(good & (names == name))
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            batch = spectra.read(rows[start : start + _ROWS_AT_ONCE])
            classes.setdefault(text, TrainingSet()).add(batch, "real", repeat)


def _simulation(wavelength_aa: np.ndarray, num_simulated: int, seed: int) -> SimulateSection:
    """Return a simulation whose pixels have the size of those of a grid in the middle of the range."""
    first, last = DESI_FIRST_AA, DESI_FIRST_AA + DESI_STEP_AA * (DESI_NUM_PIXELS - 1)
    size_aa = 0.5 * (first + last) * pixel_width(wavelength_aa)
    num_pixels = int(np.clip(round((last - first) / size_aa) + 1, 64, DESI_NUM_PIXELS))
    return SimulateSection(num_spectra=max(1, MOST_LOOKED_AT * num_simulated), num_pixels=num_pixels, seed=seed)


def _add_simulated(classes: dict[str, TrainingSet], section: SimulateSection, num_simulated: int) -> None:
    """Add simulated spectra, without the unusual ones, with their true redshifts; stop when there are enough."""
    simulator = Simulator(section)
    wavelength = torch.from_numpy(simulator.wavelength_aa.astype(np.float32))
    chooser = _Chooser(num_simulated)
    for start in range(0, section.num_spectra, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, section.num_spectra))
        block = simulator.rows(rows)
        redshift = block.columns["true_redshift"]
        for name in (b"QSO", b"GALAXY"):
            usual = np.flatnonzero((block.columns["spectype"] == name) & ~block.columns["is_unusual"])
            chosen = usual[chooser.choose(name, redshift[usual])]
            batch = SpectraBatch(
                flux=torch.from_numpy(block.flux[chosen]),
                ivar=torch.from_numpy(block.ivar[chosen]),
                wavelength_aa=wavelength,
                redshift=torch.from_numpy(redshift[chosen].astype(np.float32)),
                target_id=torch.from_numpy(block.columns["target_id"][chosen]),
                row=torch.from_numpy(rows[chosen]),
            )
            classes.setdefault(name.decode(), TrainingSet()).add(batch, "simulated")
        if chooser.has_enough():
            return


class _Chooser:
    """Chooses spectra so that no bin of redshift has more than its share."""

    def __init__(self, num_wanted: int) -> None:
        self._wanted, self._most = num_wanted, math.ceil(LARGEST_SHARE * num_wanted)
        self._in_bin: Counter[tuple[bytes, int]] = Counter()
        self._chosen: Counter[bytes] = Counter()

    def choose(self, name: bytes, redshift: np.ndarray) -> list[int]:
        """Return which of these spectra of a class to take."""
        chosen = []
        for index, place in enumerate(np.floor(np.log1p(redshift) / BIN_WIDTH).astype(int)):
            if self._chosen[name] < self._wanted and self._in_bin[name, place] < self._most:
                self._in_bin[name, place] += 1
                self._chosen[name] += 1
                chosen.append(index)
        return chosen

    def has_enough(self) -> bool:
        """Return whether both classes are complete."""
        return len(self._chosen) == 2 and min(self._chosen.values()) >= self._wanted


def _make(name: str, training: TrainingSet, step: float, num_components: int) -> Template:
    """Fit mean and components of one class."""
    redshift = torch.cat([batch.redshift for batch in training.batches]).double()
    lowest, highest = float(redshift.min()), float(redshift.max())
    first, last = _extent(training.batches)
    grid = RestGrid(step * first_pixel(first, step), step, first_pixel(last, step) - first_pixel(first, step) + 2)
    size = min(num_components, max(0, len(training) // SPECTRA_PER_COMPONENT - 1))
    pca = WeightedPCA.fit(training.repeated, grid, size)
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
