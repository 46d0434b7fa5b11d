"""Simulated quasars and galaxies as a DESI-like spectrograph sees them, in an HDF5 file of any size.

To try the toolkit without data, for tests, and for benchmarks. Spectral lines, the Lyman-alpha forest, stellar
populations, the sky and bad pixels are as in real files, and ``ivar`` is correct, so a perfect model has a reduced
chi-square of 1. Each spectrum is a function of (seed, row); spectra are simulated and written in blocks, so memory does
not grow with the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.errors import DataError
from hpctrain.files import NewFile
from hpctrain.kinds.spectra.grids import desi_grid
from hpctrain.kinds.spectra.layout import FLUX_UNIT, FORMAT, FORMAT_VERSION, IVAR_UNIT
from hpctrain.kinds.spectra.simulated.absorbers import add_forest, add_metal_lines
from hpctrain.kinds.spectra.simulated.draws import Draws, Purpose, generator
from hpctrain.kinds.spectra.simulated.galaxies import galaxy_redshifts, galaxy_spectra
from hpctrain.kinds.spectra.simulated.narrow_lines import add_narrow_lines
from hpctrain.kinds.spectra.simulated.observe import Spectrograph
from hpctrain.kinds.spectra.simulated.quasars import quasar_redshifts, quasar_spectra
from hpctrain.kinds.spectra.simulated.rest_frame import GRID_PIXELS, LN_FIRST, STEP
from hpctrain.samples.fingerprint import ColumnHash, settle_time, write_hashes
from hpctrain.samples.hashing import key_of, mix64
from hpctrain.samples.sink import new_hdf5_file, require_free

if TYPE_CHECKING:
    import h5py

    from hpctrain.kinds.spectra.section import SimulateSection

BLOCK_ROWS = 64
UNUSUAL_FRACTION = 0.006
UNUSUAL_KINDS = (
    "usual",
    "heavily reddened quasar",
    "low-ionisation broad absorption quasar",
    "two objects in one fibre",
    "wrong redshift in the catalogue",
    "arms do not meet",
    "extreme emission lines",
)
_REPEAT_EVERY = 32
_SNR_DEX = 0.3
"""Scatter of the signal to noise ratio between objects."""


@dataclass
class SimulatedBlock:
    """Some rows of the simulation: the columns of the file, and `model`, which is not written."""

    flux: np.ndarray
    ivar: np.ndarray
    model: np.ndarray
    """Flux without noise, shape (n, L), float32."""
    columns: dict[str, np.ndarray]


COLUMNS = {
    "target_id": ("i8", "identifier of the object; rows that share it are exposures of one object", ""),
    "redshift": ("f8", "redshift of the catalogue; wrong where unusual_kind is 4", ""),
    "ra": ("f8", "right ascension, J2000", "deg"),
    "dec": ("f8", "declination, J2000", "deg"),
    "spectype": ("S6", "QSO or GALAXY", ""),
    "snr": ("f4", "truth: median signal to noise ratio of the valid pixels", ""),
    "true_redshift": ("f8", "truth: redshift the spectrum was made with", ""),
    "is_unusual": ("?", "truth: one of the objects an anomaly search should find", ""),
    "unusual_kind": ("u1", "truth: " + ", ".join(f"{code} {kind}" for code, kind in enumerate(UNUSUAL_KINDS)), ""),
}
"""Columns of one value per spectrum: dtype, description, unit."""


class Simulator:
    """Makes any rows of a simulated survey.

    Parameters
    ----------
    section : SimulateSection
        Seed, grid, share of quasars and signal to noise ratio; the number of spectra does not matter here.
    """

    def __init__(self, section: SimulateSection) -> None:
        self.section = section
        grid = desi_grid()
        if section.num_pixels is not None:
            grid = np.linspace(grid[0], grid[-1], section.num_pixels)
        self.wavelength_aa = grid
        step = grid[1] - grid[0]
        self._edges_aa = np.append(grid - step / 2, grid[-1] + step / 2)
        self._rest_pixel = (np.log(grid) - LN_FIRST) / STEP
        self._spectrograph = Spectrograph(grid)

    def rows(self, rows: np.ndarray) -> SimulatedBlock:
        """Return rows of the survey; a row does not depend on which others are simulated with it.

        Parameters
        ----------
        rows : ndarray, shape (n,), int64

        Returns
        -------
        SimulatedBlock
        """
        objects = _object_of(rows)
        draws = Draws(self.section.seed, objects)
        is_quasar = draws.uniform() < self.section.quasar_fraction
        is_unusual, which = draws.uniform() < UNUSUAL_FRACTION, 1 + (draws.uniform() * 6).astype(np.uint8)
        # Unusual quasars have dust or broad absorption; unusual galaxies have extreme lines.
        kind = np.where(is_unusual, np.where(is_quasar | (which > 2), which, 6), 0).astype(np.uint8)
        shared = {name: draws.uniform() for name in ("ra", "dec", "other", "step", "metal", "metal_redshift")}
        brightness, metal_depth = draws.normal(), draws.around(1.0, 0.25)
        model = np.empty((len(rows), len(self.wavelength_aa)), np.float32)
        redshift = np.empty(len(rows))
        for chosen, make in ((np.flatnonzero(is_quasar), self._quasars), (np.flatnonzero(~is_quasar), self._galaxies)):
            if chosen.size:
                model[chosen], redshift[chosen] = make(draws.of(chosen), kind[chosen], shared["other"][chosen])
        for index in np.flatnonzero(is_quasar):
            forest = generator(self.section.seed, Purpose.FOREST, int(objects[index]))
            add_forest(model[index], self.wavelength_aa, redshift[index], forest)
            if shared["metal"][index] < 0.2:
                nearer = 0.3 + (redshift[index] - 0.35) * shared["metal_redshift"][index]
                add_metal_lines(model[index], self.wavelength_aa, nearer, metal_depth[index])
        jumps = np.flatnonzero(kind == 5)
        model[np.ix_(jumps, self.wavelength_aa < 5780)] *= (1.5 + shared["step"][jumps])[:, None].astype(np.float32)
        model *= self._scale_to_snr(model, self.section.snr_median * 10 ** (_SNR_DEX * brightness))[:, None]
        flux, ivar, snr = self._expose(rows, model)
        claimed = np.where(kind == 4, _confused(redshift, shared["other"]), redshift)
        columns = {
            "target_id": _target_id(self.section.seed, objects),
            "redshift": claimed,
            "ra": 360.0 * shared["ra"],
            "dec": np.degrees(np.arcsin(-0.3 + 1.26 * shared["dec"])),
            "spectype": np.where(is_quasar, b"QSO", b"GALAXY"),
            "snr": snr,
            "true_redshift": redshift,
            "is_unusual": kind > 0,
            "unusual_kind": kind,
        }
        return SimulatedBlock(flux, ivar, model, columns)

    def _quasars(self, draws: Draws, kind: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        redshift = quasar_redshifts(draws)
        rest, areas, sigma = quasar_spectra(draws, kind == 1, kind == 2, kind == 6)
        return self._observed(rest, areas, sigma, redshift, kind == 3, 0.4 + 2.6 * other), redshift

    def _galaxies(self, draws: Draws, kind: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        redshift, is_quiescent = galaxy_redshifts(draws)
        rest, areas, sigma = galaxy_spectra(draws, is_quiescent, kind == 6)
        return self._observed(rest, areas, sigma, redshift, kind == 3, 0.05 + other), redshift

    def _observed(self, rest, areas, sigma, redshift, is_blend, other_redshift) -> np.ndarray:
        """Return observed spectra, shape (n, L), from rest-frame ones; blends get a second one on top."""
        observed = self._shift(rest, redshift)
        add_narrow_lines(observed, self._edges_aa, redshift, areas, sigma)
        blends = np.flatnonzero(is_blend)
        if blends.size:
            second = self._shift(rest[blends], other_redshift[blends])
            part = {name: area[blends] for name, area in areas.items()}
            add_narrow_lines(second, self._edges_aa, other_redshift[blends], part, sigma[blends])
            first = observed[blends]
            observed[blends] += second * (first.mean(axis=1) / second.mean(axis=1))[:, None]
        return observed

    def _shift(self, rest: np.ndarray, redshift: np.ndarray) -> np.ndarray:
        """Interpolate rest-frame spectra at the observed pixels: a shift, as the rest-frame grid is logarithmic."""
        observed = np.empty((len(rest), len(self.wavelength_aa)), np.float32)
        for index, z in enumerate(redshift):
            place = self._rest_pixel - np.log1p(z) / STEP
            left = place.astype(np.int32)
            part = (place - left).astype(np.float32)
            assert left[0] >= 0, "the rest-frame grid begins below the bluest pixel of the highest redshift"
            assert left[-1] < GRID_PIXELS - 1, "and ends beyond the reddest of the lowest"
            below, above = rest[index].take(left), rest[index].take(left + 1)
            observed[index] = below + part * (above - below)
        return observed

    def _scale_to_snr(self, model: np.ndarray, snr: np.ndarray) -> np.ndarray:
        """Return a factor for each spectrum, so that its median pixel of 0.8 AA has this signal to noise ratio."""
        step = self.wavelength_aa[1] - self.wavelength_aa[0]
        sky_sigma = np.sqrt(self._spectrograph.sky_variance * step / 0.8)
        unit_snr = np.median(model[:, ::8] / sky_sigma[::8], axis=1)
        # With its own photons s / sqrt(1 + k s) instead of s: solve for s.
        k = float(np.median(self._spectrograph.photon_variance / np.sqrt(self._spectrograph.sky_variance)))
        k *= np.sqrt(step / 0.8)
        sky_snr = 0.5 * (k * snr**2 + snr * np.sqrt((k * snr) ** 2 + 4))
        return (sky_snr / np.maximum(unit_snr, 1e-3)).astype(np.float32)

    def _expose(self, rows: np.ndarray, model: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return flux with noise, its inverse variance, and the median signal to noise ratio of each exposure."""
        randoms = [generator(self.section.seed, Purpose.EXPOSURE, int(row)) for row in rows]
        depth = np.array([10 ** (0.08 * random.standard_normal()) for random in randoms], np.float32)
        sigma = self._spectrograph.sigma(model, depth)
        snr = np.median(model[:, ::4] / sigma[:, ::4], axis=1)
        flux = np.empty_like(model)
        for index, random in enumerate(randoms):
            random.standard_normal(out=flux[index], dtype=np.float32)
        flux *= sigma
        flux += model
        ivar = np.reciprocal(np.square(sigma, out=sigma), out=sigma)
        for index, random in enumerate(randoms):
            self._spectrograph.spoil(flux[index], ivar[index], random)
        return flux, ivar, np.where(ivar.any(axis=1), snr, 0)


def simulate(
    path: Path,
    section: SimulateSection,
    *,
    overwrite: bool = False,
    on_rows: Callable[[int], None] | None = None,
) -> None:
    """Write a file of simulated spectra.

    Parameters
    ----------
    path : Path
        The file; it gets this name when it is complete.
    section : SimulateSection
        ``data.simulate`` of the profile.
    overwrite : bool
        Replace an existing file.
    on_rows : callable, optional
        Called with the number of new rows after each block.

    Raises
    ------
    DataError
        The file exists, or cannot be written.
    """
    require_free(path, overwrite)
    simulator = Simulator(section)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NewFile(path) as new:
            with new_hdf5_file(Path(new.name_for_libraries)) as (file, sink):
                _lay_out(file, simulator)
                hashes = {name: ColumnHash() for name in ("flux", "ivar")}
                for start in range(0, section.num_spectra, BLOCK_ROWS):
                    stop = min(start + BLOCK_ROWS, section.num_spectra)
                    block = simulator.rows(np.arange(start, stop))
                    for name, values in {"flux": block.flux, "ivar": block.ivar, **block.columns}.items():
                        file[name][start:stop] = values
                        if name in hashes:
                            hashes[name].update(values)
                    sink.check()
                    if on_rows is not None:
                        on_rows(stop - start)
                write_hashes(file, {name: column.hexdigest() for name, column in hashes.items()})
            settle_time(Path(new.name_for_libraries))
            require_free(path, overwrite)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}; nothing was left there") from error


def _lay_out(file: h5py.File, simulator: Simulator) -> None:
    """Create the datasets, contiguous and empty, with their descriptions."""
    section = simulator.section
    num_pixels = len(simulator.wavelength_aa)
    file.attrs.update({"format": FORMAT, "format_version": FORMAT_VERSION, "origin": "simulated by hpctrain"})
    file.attrs["simulate"] = section.model_dump_json()
    wavelength = file.create_dataset("wavelength", data=simulator.wavelength_aa)
    wavelength.attrs.update({"unit": "AA", "description": "vacuum wavelength of the pixel centres"})
    pixels = {
        "flux": (FLUX_UNIT, "flux density; arbitrary where ivar is 0"),
        "ivar": (IVAR_UNIT, "inverse variance of flux; 0 masks a pixel"),
    }
    for name, (unit, description) in pixels.items():
        dataset = file.create_dataset(name, (section.num_spectra, num_pixels), "f4", fill_time="never")
        dataset.attrs.update({"unit": unit, "description": description})
    for name, (dtype, description, unit) in COLUMNS.items():
        dataset = file.create_dataset(name, (section.num_spectra,), dtype)
        dataset.attrs.update({"description": description} | ({"unit": unit} if unit else {}))


def _object_of(rows: np.ndarray) -> np.ndarray:
    """Return the number of each row's object: every 32nd row is another exposure of one shortly before it."""
    back = 1 + (rows // _REPEAT_EVERY) % 8
    return np.where(rows % _REPEAT_EVERY == _REPEAT_EVERY - 1, rows - back, rows)


def _target_id(seed: int, objects: np.ndarray) -> np.ndarray:
    """Return identifiers that differ between objects and between seeds, so that several files make one set."""
    bits = mix64(objects.astype(np.uint64) ^ mix64(np.array([seed], np.uint64) ^ key_of("simulate")))
    return (bits >> np.uint64(2)).astype(np.int64)


def _confused(redshift: np.ndarray, choice: np.ndarray) -> np.ndarray:
    """Return the redshift that a fit gives if it mistakes one line for another."""
    ratio = np.where(choice < 0.5, 1549.06 / 1908.73, 3728.5 / 5008.24)
    lower = (1 + redshift) * ratio - 1
    return np.where(lower > 0.01, lower, (1 + redshift) / ratio - 1)
