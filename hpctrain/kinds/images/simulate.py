"""Simulate cut-outs of galaxies, some with arcs of a lensed background galaxy. N images, B bands, P × P pixels.

Every image has a red early-type galaxy in the middle: a Sérsic profile of index 2.5 to 5. A lens has a blue
exponential galaxy behind it, whose light a singular isothermal ellipsoid deflects. The other images show what finders
of lenses confuse with arcs: nothing, one to three blue companions, a blue disc with spiral arms, or a blue ring. All
are convolved with a Gaussian point spread function and have sky noise; 0.2 % of the pixels are masked.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from hpctrain.files import NewFile

if TYPE_CHECKING:
    from hpctrain.kinds.images.section import SimulateImagesSection

BANDS = ("g", "r", "i")
PIXEL_ARCSEC = 0.263
"""Size of a pixel [arcsec]: that of the Dark Energy Camera."""

RED, BLUE = np.array([0.28, 0.75, 1.0]), np.array([0.9, 1.0, 1.05])
"""Flux of old and of young stars in the bands, relative to one another."""

KINDS = ("plain", "companions", "spiral", "ring")
"""Galaxies that are no lenses."""

_FINER = 3
"""Points along each axis at which a pixel is computed."""
_BLOCK = 128
"""Images that are computed together, which bounds the memory."""
_MASKED_SHARE = 0.002


def simulate(path: Path, section: SimulateImagesSection) -> None:
    """Write an HDF5 file with images, inverse variances and labels, whole or not at all.

    The labels are ``lens`` (yes or no), ``einstein_radius`` [arcsec] (NaN for others), ``half_light_radius`` [arcsec],
    ``sersic_index``, ``axis_ratio`` and ``position_angle`` [degree, 0 to 180] of the galaxy in the middle, and
    ``kind``. Each image depends on the seed and its number alone.

    Parameters
    ----------
    path : Path
    section : SimulateImagesSection
    """
    num, side = section.num_images, section.num_pixels
    shape = (num, len(BANDS), side, side)
    with NewFile(path, durable=False) as new, h5py.File(new.stream, "w") as file:
        file.attrs["simulated"] = True
        file.attrs["pixel_arcsec"] = PIXEL_ARCSEC
        file["bands"] = np.array(BANDS, dtype="S1")
        file["target_id"] = np.arange(1, num + 1)
        image, ivar = (file.create_dataset(name, shape, np.float32) for name in ("image", "ivar"))
        labels: dict[str, list[np.ndarray]] = {}
        for start in range(0, num, _BLOCK):
            numbers = np.arange(start, min(num, start + _BLOCK))
            pixels, weights, found = _block(numbers, section)
            image[start : start + len(numbers)], ivar[start : start + len(numbers)] = pixels, weights
            for name, values in found.items():
                labels.setdefault(name, []).append(values)
        for name, parts in labels.items():
            file[name] = np.concatenate(parts)


def _block(numbers: np.ndarray, section: SimulateImagesSection) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return images and inverse variances (n, B, P, P), and labels (n,)."""
    side = section.num_pixels
    images, ivars, truths = [], [], []
    for number in numbers.tolist():
        rng = np.random.default_rng([section.seed, number])
        scene, truth = _scene(rng, section.lens_fraction, side)
        seeing = np.clip(section.seeing * np.exp(0.12 * rng.normal()), 0.3, 5.0)
        image = _seen(scene, seeing)
        image += rng.normal(size=image.shape)  # the unit of flux is the noise of a pixel
        ivar = np.ones(image.shape, np.float32)
        ivar[:, rng.random((side, side)) < _MASKED_SHARE] = 0.0
        images.append(image)
        ivars.append(ivar)
        truths.append(truth)
    labels = {name: np.array([truth[name] for truth in truths]) for name in truths[0]}
    labels = {name: values.astype("S10") if values.dtype.kind == "U" else values for name, values in labels.items()}
    return np.stack(images).astype(np.float32), np.stack(ivars), labels


@dataclass(frozen=True)
class _Grid:
    """Points of a fine grid, from the centre [arcsec]; each pixel has `_FINER`² of them."""

    x: np.ndarray
    y: np.ndarray

    @classmethod
    def of(cls, side: int) -> _Grid:
        axis = (np.arange(side * _FINER) - (side * _FINER - 1) / 2) * PIXEL_ARCSEC / _FINER
        return cls(*np.meshgrid(axis, axis))

    def turned(self, x: float, y: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Return coordinates around a point, with the first axis along `angle` [radian]."""
        dx, dy = self.x - x, self.y - y
        return dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)


def _scene(rng: np.random.Generator, lens_fraction: float, side: int) -> tuple[np.ndarray, dict[str, object]]:
    """Return the light before the telescope (B, P, P) in units of the noise of a pixel, and the labels."""
    grid = _Grid.of(side)
    is_lens = rng.random() < lens_fraction
    kind = "lens" if is_lens else str(rng.choice(KINDS, p=(0.3, 0.3, 0.2, 0.2)))
    x, y = rng.normal(0, 0.1, 2)
    q, angle = rng.uniform(0.5, 1.0), rng.uniform(0, np.pi)
    radius, index = np.exp(rng.normal(np.log(1.1), 0.35)), rng.uniform(2.5, 5.0)
    einstein = min(rng.uniform(0.8, 2.2), 0.3 * side * PIXEL_ARCSEC)
    brightness = 10 ** rng.uniform(2.7, 3.7)
    main = brightness * _unit_sum(sersic(grid.turned(x, y, angle), radius, index, q))
    light = RED[:, None, None] * main
    blue = BLUE * (1 + 0.15 * rng.normal(size=len(BANDS)))
    if is_lens:
        light = light + blue[:, None, None] * _arcs(rng, grid, (x, y, q, angle, einstein))
    elif kind != "plain":
        light = light + blue[:, None, None] * _confusing(rng, grid, kind, (x, y))
    fine = light.reshape(len(BANDS), side, _FINER, side, _FINER)
    truth = {
        "lens": "yes" if is_lens else "no",
        "kind": kind,
        "einstein_radius": einstein if is_lens else np.nan,
        "half_light_radius": radius,
        "sersic_index": index,
        "axis_ratio": q,
        "position_angle": np.degrees(angle),
    }
    return fine.sum(axis=(2, 4)), truth


def sersic(coordinates: tuple[np.ndarray, np.ndarray], radius: float, index: float, q: float) -> np.ndarray:
    """Return the surface brightness of a Sérsic profile, 1 at the half-light radius.

    Parameters
    ----------
    coordinates : tuple of ndarray
        Along the major and the minor axis, in the unit of `radius`.
    radius : float
        Half-light radius along the geometric mean of the axes.
    index : float
        Sérsic index, above 0.36.
    q : float
        Axis ratio, 0 to 1.

    References
    ----------
    .. [1] Ciotti & Bertin 1999, A&A 352, 447, arXiv:astro-ph/9911078, eq. 18: the number b.
    """
    along, across = coordinates
    r = np.sqrt(q * along**2 + across**2 / q) / radius
    b = 2 * index - 1 / 3 + 4 / (405 * index) + 46 / (25515 * index**2)
    return np.exp(-b * (r ** (1 / index) - 1))


def deflection(along: np.ndarray, across: np.ndarray, einstein: float, q: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the deflection by a singular isothermal ellipsoid along its axes, in the unit of the coordinates.

    References
    ----------
    .. [1] Kormann, Schneider & Bartelmann 1994, A&A 284, 285, eq. 27; here the ellipse of the Einstein radius b has
       the area of a circle of that radius.
    """
    e = np.sqrt(max(1 - q**2, 1e-8))
    psi = np.maximum(np.sqrt(q**2 * along**2 + across**2), 1e-9)
    factor = einstein * np.sqrt(q) / e
    return factor * np.arctan(e * along / psi), factor * np.arctanh(e * across / psi)


def _arcs(rng: np.random.Generator, grid: _Grid, lens: tuple[float, float, float, float, float]) -> np.ndarray:
    """Return the light of a lensed galaxy on the fine grid."""
    x, y, q, angle, einstein = lens
    q_mass, turn = np.clip(q + 0.1 * rng.normal(), 0.4, 0.98), angle + 0.15 * rng.normal()
    along, across = grid.turned(x, y, turn)
    bend = deflection(along, across, einstein, q_mass)
    offset, direction = einstein * 0.55 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    dx = along - bend[0] - offset * np.cos(direction)
    dy = across - bend[1] - offset * np.sin(direction)
    spin = rng.uniform(0, np.pi)
    source = dx * np.cos(spin) + dy * np.sin(spin), dy * np.cos(spin) - dx * np.sin(spin)
    arcs = sersic(source, rng.uniform(0.12, 0.35), 1.0, rng.uniform(0.4, 1.0))
    return 10 ** rng.uniform(2.0, 3.0) * _unit_sum(arcs)


def _confusing(rng: np.random.Generator, grid: _Grid, kind: str, centre: tuple[float, float]) -> np.ndarray:
    """Return blue light that is no lensed galaxy, on the fine grid, as bright as arcs are."""
    brightness = 10 ** rng.uniform(2.0, 3.0)
    q, angle = rng.uniform(0.4, 1.0), rng.uniform(0, np.pi)
    if kind == "companions":
        found = np.zeros_like(grid.x)
        for _ in range(rng.integers(1, 4)):
            distance, direction = rng.uniform(0.9, 3.5), rng.uniform(0, 2 * np.pi)
            place = centre[0] + distance * np.cos(direction), centre[1] + distance * np.sin(direction)
            each = sersic(grid.turned(*place, rng.uniform(0, np.pi)), rng.uniform(0.2, 0.6), 1.0, rng.uniform(0.3, 1))
            found += rng.uniform(0.3, 1.0) * _unit_sum(each)
        return brightness * _unit_sum(found)
    along, across = grid.turned(*centre, angle)
    r, phase = np.hypot(along, across / max(q, 0.6)), np.arctan2(across, along)
    if kind == "spiral":
        scale, wind = rng.uniform(0.6, 1.2), rng.choice((-1, 1)) * rng.uniform(2.0, 4.0)
        arms = 0.15 + np.cos(phase + wind * np.log(r / scale + 0.3)) ** 6
        return brightness * _unit_sum(arms * np.exp(-r / scale))
    ring = np.exp(-0.5 * ((r - rng.uniform(0.9, 2.0)) / rng.uniform(0.2, 0.4)) ** 2)
    return brightness * _unit_sum(ring * (1 + 0.4 * np.cos(phase - rng.uniform(0, 2 * np.pi))))


def _unit_sum(light: np.ndarray) -> np.ndarray:
    return light / max(float(light.sum()), 1e-30)


def _seen(image: np.ndarray, fwhm_arcsec: float) -> np.ndarray:
    """Return images (B, P, P) convolved with a Gaussian, whose transform is a Gaussian."""
    side = image.shape[-1]
    padded = 2 * side  # light must not come in on the other side
    sigma = fwhm_arcsec / 2.3548 / PIXEL_ARCSEC
    frequency = np.fft.fftfreq(padded)[:, None], np.fft.rfftfreq(padded)[None, :]
    transfer = np.exp(-2 * (np.pi * sigma) ** 2 * (frequency[0] ** 2 + frequency[1] ** 2))
    spectrum = np.fft.rfft2(image, s=(padded, padded)) * transfer
    return np.fft.irfft2(spectrum, s=(padded, padded))[..., :side, :side]
