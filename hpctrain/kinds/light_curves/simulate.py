"""Light curves of variable stars, transients and quasars in three bands, with gaps, weather and honest errors.

Fluxes are in microjansky, so that a transient can be observed before it exists. N curves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.kinds.light_curves.layout import Curves, write_curves

if TYPE_CHECKING:
    from hpctrain.kinds.light_curves.section import SimulateCurvesSection

BANDS = ("g", "r", "i")
_WAVELENGTH_UM = np.array([0.48, 0.62, 0.76])
_SKY_UJY = np.array([0.5, 0.6, 0.9])
"""Noise of the sky in each band [uJy]."""
_RELATIVE_ERROR = 0.01
_SEASON_DAYS, _YEAR_DAYS = 220.0, 365.25
"""Each object is observed for so many days of a year."""


@dataclass(frozen=True)
class _Model:
    """The flux of one object, without noise.

    Parameters
    ----------
    flux : callable
        Returns the flux [uJy] for times (n,) and numbers of bands (n,).
    period : float
        Period [day]; NaN if there is none.
    """

    flux: Callable[[np.ndarray, np.ndarray], np.ndarray]
    period: float = float("nan")


def simulate(path: Path, section: SimulateCurvesSection) -> None:
    """Write an HDF5 file of labelled light curves, whole or not at all.

    Classes are RR Lyrae of both kinds, eclipsing binaries, supernovae of two speeds, and quasars. The columns ``class``
    and ``period`` are the truth; ``period`` is NaN where there is none.

    Parameters
    ----------
    path : Path
    section : SimulateCurvesSection
    """
    rng = np.random.default_rng(section.seed)
    names = list(MODELS)
    classes = [names[number] for number in rng.integers(len(names), size=section.num_curves)]
    models = [MODELS[name](rng, section.num_days) for name in classes]
    observed = [_observe(model, rng, section) for model in models]
    time, flux, error, band = (np.concatenate(parts) for parts in zip(*observed, strict=True))
    curves = Curves(
        offsets=np.cumsum([0, *(len(parts[0]) for parts in observed)]),
        time=time,
        value=flux,
        error=error,
        band=band,
        bands=BANDS,
        target_id=np.arange(1, section.num_curves + 1),
        columns={
            "class": np.array(classes, dtype=object),
            "period": np.array([model.period for model in models]),
        },
        unit="uJy",
    )
    write_curves(path, curves, {"simulated": True})


def _observe(model: _Model, rng: np.random.Generator, section: SimulateCurvesSection) -> tuple[np.ndarray, ...]:
    """Return times, fluxes, errors and bands of one object, in order of time."""
    season = rng.uniform(0, _YEAR_DAYS)
    most = 3 + rng.poisson(
        section.points_per_band * len(BANDS) * section.num_days / min(section.num_days, _SEASON_DAYS)
    )
    night = np.sort(rng.integers(0, max(1, int(section.num_days)), most))
    is_up = (night - season) % _YEAR_DAYS < _SEASON_DAYS
    is_clear = np.random.default_rng(section.seed + 1).random(int(section.num_days) + 1)[night] < 0.7
    keep = is_up & is_clear
    if keep.sum() < 3:
        keep[:3] = True
    time = np.sort(night[keep] + rng.uniform(0.1, 0.4, keep.sum()))
    band = rng.integers(len(BANDS), size=len(time)).astype(np.int16)
    true = model.flux(time, band)
    seeing = rng.lognormal(0, 0.25, len(time))
    error = np.hypot(_SKY_UJY[band] * seeing, _RELATIVE_ERROR * np.abs(true))
    return 59000.0 + time, true + error * rng.normal(size=len(time)), error, band


def _brightness(rng: np.random.Generator) -> float:
    """Return a typical flux [uJy]: magnitude 17 to 21."""
    return float(10 ** (0.4 * (23.9 - rng.uniform(17, 21))))


def _black_body(temperature_k: np.ndarray | float) -> np.ndarray:
    """Return the flux of a black body in the bands relative to r, shape (..., 3)."""
    x = 14388.0 / (_WAVELENGTH_UM * np.asarray(temperature_k)[..., None])
    flux = _WAVELENGTH_UM**-3.0 / np.expm1(x)
    return flux / flux[..., 1:2]


def _pulsator(rng: np.random.Generator, period: float, amplitude: float, rise: float) -> _Model:
    """Return a star that brightens within the share `rise` of its period, more so in the blue."""
    start, level = rng.random(), _brightness(rng)
    colour = _black_body(rng.uniform(6200, 7200))
    strength = amplitude * np.array([1.2, 0.9, 0.7])

    def flux(time: np.ndarray, band: np.ndarray) -> np.ndarray:
        phase = (time / period + start) % 1.0
        wave = np.where(phase < rise, phase / rise, 1 - (phase - rise) / (1 - rise))
        return level * colour[band] * 10 ** (0.4 * strength[band] * (wave**1.3 - 0.5))

    return _Model(flux, period)


def _rr_ab(rng: np.random.Generator, num_days: float) -> _Model:
    return _pulsator(rng, rng.uniform(0.45, 0.8), rng.uniform(0.5, 1.3), rng.uniform(0.12, 0.22))


def _rr_c(rng: np.random.Generator, num_days: float) -> _Model:
    return _pulsator(rng, rng.uniform(0.25, 0.42), rng.uniform(0.25, 0.6), rng.uniform(0.42, 0.5))


def _eclipsing(rng: np.random.Generator, num_days: float) -> _Model:
    """Return two stars that eclipse each other; the flux between eclipses is constant."""
    period, start, level = 10 ** rng.uniform(-0.4, 0.8), rng.random(), _brightness(rng)
    depths, width = np.sort(rng.uniform(0.1, 0.6, 2))[::-1], rng.uniform(0.03, 0.09)
    colour = _black_body(rng.uniform(4500, 9000))

    def flux(time: np.ndarray, band: np.ndarray) -> np.ndarray:
        phase = (time / period + start) % 1.0
        first = np.exp(-0.5 * (np.minimum(phase, 1 - phase) / width) ** 4)
        second = np.exp(-0.5 * ((phase - 0.5) / width) ** 4)
        return level * colour[band] * (1 - depths[0] * first - depths[1] * second)

    return _Model(flux, period)


def _supernova(rng: np.random.Generator, num_days: float, rise: tuple, fall: tuple, cooling: float) -> _Model:
    """Return a transient that rises and falls exponentially and cools; see Bazin et al. 2009, arXiv:0904.1066."""
    peak, level = rng.uniform(0.1, 0.8) * num_days, 3 * _brightness(rng)
    rise_days, fall_days = rng.uniform(*rise), rng.uniform(*fall)
    stretch = np.array([0.85, 1.0, 1.2])

    def flux(time: np.ndarray, band: np.ndarray) -> np.ndarray:
        since = time - peak
        shape = np.exp(np.clip(-since / (fall_days * stretch[band]), -50, 50)) / (
            1 + np.exp(np.clip(-since / rise_days, -50, 50))
        )
        kelvin = np.clip(11000 * np.exp(-since / cooling), 4500, 14000)
        return 2 * level * shape * np.take_along_axis(_black_body(kelvin), band[:, None].astype(int), axis=1)[:, 0]

    return _Model(flux)


def _fast_supernova(rng: np.random.Generator, num_days: float) -> _Model:
    return _supernova(rng, num_days, (2.5, 4.5), (14, 22), 22)


def _slow_supernova(rng: np.random.Generator, num_days: float) -> _Model:
    return _supernova(rng, num_days, (3.5, 8), (40, 90), 60)


def _quasar(rng: np.random.Generator, num_days: float) -> _Model:
    """Return a damped random walk; see Kelly, Bechtold & Siemiginowska 2009, arXiv:0903.5315."""
    tau_days, amplitude, level = 10 ** rng.uniform(1.5, 2.7), rng.uniform(0.1, 0.35), _brightness(rng)
    days = np.arange(int(num_days) + 2)
    keep = np.exp(-1.0 / tau_days)
    walk, noise = np.empty(len(days)), rng.normal(size=len(days))
    walk[0] = noise[0]
    for day in range(1, len(days)):
        walk[day] = keep * walk[day - 1] + np.sqrt(1 - keep**2) * noise[day]
    colour, strength = (_WAVELENGTH_UM / 0.62) ** rng.uniform(0.2, 0.8), amplitude * np.array([1.2, 1.0, 0.85])

    def flux(time: np.ndarray, band: np.ndarray) -> np.ndarray:
        return level * colour[band] * 10 ** (0.4 * strength[band] * np.interp(time, days, walk))

    return _Model(flux)


MODELS: dict[str, Callable[[np.random.Generator, float], _Model]] = {
    "RRAB": _rr_ab,
    "RRC": _rr_c,
    "ECL": _eclipsing,
    "SN_FAST": _fast_supernova,
    "SN_SLOW": _slow_supernova,
    "QSO": _quasar,
}
"""What each class looks like."""
