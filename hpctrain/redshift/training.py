"""Spectra from which templates are made: real ones with redshift and class, and simulated ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from hpctrain.errors import DataError
from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.kinds.spectra.grids import DESI_FIRST_AA, DESI_NUM_PIXELS, DESI_STEP_AA
from hpctrain.kinds.spectra.section import NormaliseSection, SimulateSection
from hpctrain.kinds.spectra.simulate import Simulator
from hpctrain.kinds.spectra.transform import normalise
from hpctrain.redshift.log_grid import pixel_width

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.hdf5 import SpectraSet

REPEAT_REAL = 4
"""Weight of a real spectrum where simulated ones are added, as long as this does not exceed `MOST_SPECTRA`."""

MOST_SPECTRA = 2000
"""Largest number of real spectra of a class that are used, chosen at random: more would only cost time and memory."""

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


def training_sets(sets: Sequence[SpectraSet], section: SimulateSection, num_simulated: int) -> dict[str, TrainingSet]:
    """Return the training spectra of each class.

    Parameters
    ----------
    sets : sequence of SpectraSet
        Real spectra with redshifts and a column of classes; those with a redshift warning are left out.
    section : SimulateSection
        The simulation.
    num_simulated : int
        Number of simulated quasars, and of galaxies.

    Raises
    ------
    DataError
        A file has no classes.
    """
    classes: dict[str, TrainingSet] = {}
    for spectra in sets:
        _add_real(classes, spectra, REPEAT_REAL if num_simulated else 1)
    if num_simulated:
        _add_simulated(classes, section, num_simulated)
    return classes


def _add_real(classes: dict[str, TrainingSet], spectra: SpectraSet, most_repeats: int) -> None:
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
        rows = np.random.default_rng(0).permutation(np.flatnonzero(good & (names == name)))[:MOST_SPECTRA]
        times = min(most_repeats, max(1, MOST_SPECTRA // len(rows)))
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            batch = spectra.read(rows[start : start + _ROWS_AT_ONCE])
            classes.setdefault(text, TrainingSet()).add(batch, "real", times)


def simulation_for(wavelength_aa: np.ndarray, num_simulated: int, seed: int) -> SimulateSection:
    """Return a simulation whose pixels have the size of those of a grid, in the middle of the range.

    Parameters
    ----------
    wavelength_aa : ndarray, shape (L,)
        The grid [AA].
    num_simulated : int
        Number of spectra that are wanted of each class; the simulation has several times as many, to choose from.
    seed : int
    """
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
