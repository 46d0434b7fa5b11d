"""Plain features of pictures of galaxies: size, shape, concentration, asymmetry, smoothness, Gini, M20, colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

FEATURES = (
    "half-light radius",
    "ellipticity",
    "concentration",
    "asymmetry",
    "smoothness",
    "Gini",
    "M20",
    "surface brightness",
    "blue - green",
    "green - red",
    "gradient of blue - red",
)


def features_of_picture(path: Path, side: int) -> np.ndarray:
    """Return the features of the galaxy in the middle of a JPEG, shape (11,).

    Parameters
    ----------
    path : Path
    side : int
        Side of the central square that is looked at [pixel].
    """
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float64)
    top, left = (np.array(pixels.shape[:2]) - side) // 2
    return features(pixels[top : top + side, left : left + side].transpose(2, 0, 1))


def features(image: np.ndarray) -> np.ndarray:
    """Return the features of a galaxy in the middle of an image with the bands red, green, blue.

    Parameters
    ----------
    image : ndarray, shape (3, H, W), float64

    Returns
    -------
    ndarray, shape (11,)
        In the order of `FEATURES`.

    References
    ----------
    .. [1] Conselice 2003, ApJS 147, 1, arXiv:astro-ph/0303065: concentration, asymmetry, smoothness.
    .. [2] Lotz, Primack & Madau 2004, AJ 128, 163, arXiv:astro-ph/0311352: Gini and M20.
    """
    border = np.concatenate([image[:, :4].reshape(3, -1), image[:, -4:].reshape(3, -1)], axis=1)
    sky = np.median(border, axis=1)
    noise = 1.4826 * np.median(np.abs(border - sky[:, None]), axis=1).mean() + 0.5
    bands = image - sky[:, None, None]
    light = bands.mean(axis=0)
    inside = _segment(light, 1.5 * noise)
    y, x = np.indices(light.shape)
    flux = np.where(inside, np.maximum(light, 0), 0)
    total = max(flux.sum(), 1e-9)
    cy, cx = (flux * y).sum() / total, (flux * x).sum() / total
    r = np.hypot(y - cy, x - cx)
    order = np.argsort(r, axis=None)
    growth = np.cumsum(flux.ravel()[order]) / total
    r20, r50, r80 = (
        max(r.ravel()[order][min(np.searchsorted(growth, part), r.size - 1)], 0.5) for part in (0.2, 0.5, 0.8)
    )
    moments = [(flux * a * b).sum() / total for a, b in ((y - cy, y - cy), (x - cx, x - cx), (y - cy, x - cx))]
    spread = np.hypot(moments[0] - moments[1], 2 * moments[2])
    near = r < 1.5 * r80
    turned = ndimage.shift(light, ((light.shape[0] - 1) / 2 - cy, (light.shape[1] - 1) / 2 - cx), order=1)
    asymmetry = np.abs(turned - turned[::-1, ::-1])[near].sum() / (2 * total)
    smooth = ndimage.uniform_filter(light, max(3, round(0.25 * r80)))
    smoothness = np.maximum(light - smooth, 0)[near & (r > 0.25 * r50)].sum() / total
    values = np.sort(np.abs(light[inside]))
    n = len(values)
    gini = ((2 * np.arange(1, n + 1) - n - 1) * values).sum() / max(values.mean() * n * (n - 1), 1e-9)
    energy = (flux * r**2).ravel()
    brightest = np.argsort(-flux, axis=None)
    part = np.searchsorted(np.cumsum(flux.ravel()[brightest]), 0.2 * total) + 1
    m20 = np.log10(max(energy[brightest[:part]].sum(), 1e-9) / max(energy.sum(), 1e-9))
    red, green, blue = (np.maximum([band[inside].mean() for band in bands], 0.1)).tolist()
    core = inside & (r <= r50)
    rim = inside & (r > r50)
    inner, outer = (
        np.log10(max(bands[2][where].mean(), 0.1) / max(bands[0][where].mean(), 0.1)) if where.any() else 0.0
        for where in (core, rim)
    )
    return np.array(
        [
            r50,
            spread / max(moments[0] + moments[1], 1e-9),
            5 * np.log10(r80 / r20),
            asymmetry,
            smoothness,
            gini,
            m20,
            np.log10(total / (np.pi * r50**2)),
            np.log10(blue / green),
            np.log10(green / red),
            outer - inner,
        ]
    )


def _segment(light: np.ndarray, limit: float) -> np.ndarray:
    """Return the pixels above a limit that are connected to the middle, (H, W), bool; at least a small disc there."""
    y, x = np.indices(light.shape)
    disc = np.hypot(y - light.shape[0] / 2, x - light.shape[1] / 2) < max(2, 0.03 * light.shape[0])
    labels, _ = ndimage.label(ndimage.gaussian_filter(light, 1.5) > limit)
    return np.isin(labels, np.setdiff1d(np.unique(labels[disc]), [0])) | disc
