"""Draw cells of the sky in Mollweide's projection, which keeps areas. C cells."""

from __future__ import annotations

from html import escape

import numpy as np

from hpctrain.drawing.described.figure import Figure, SkyCell, SkyData
from hpctrain.drawing.described.frame import array, colour_scale, level_of
from hpctrain.drawing.scale import significant
from hpctrain.drawing.svg import HALF, WIDE, number, on_both, path_of

_NEWTON = 60
_STEPS = 8
"""Points along each side of a cell."""


def mollweide(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project a sphere onto an ellipse of area 4 pi.

    Parameters
    ----------
    lon, lat : ndarray, shape (n,)
        Longitude from -180 to 180 and latitude [deg].

    Returns
    -------
    x, y : ndarray, shape (n,)
        From -2 sqrt(2) to 2 sqrt(2), and from -sqrt(2) to sqrt(2).

    References
    ----------
    .. [1] Snyder 1987, Map projections: a working manual, USGS Professional Paper 1395, p. 251.
    """
    phi = np.radians(np.asarray(lat, dtype=np.float64))
    theta = 2 * np.arcsin(2 * phi / np.pi)  # of the equation theta + sin(theta) = pi sin(phi), for twice the angle
    for _ in range(_NEWTON):
        slope = np.maximum(1 + np.cos(theta), 1e-9)
        theta = np.clip(theta - (theta + np.sin(theta) - np.pi * np.sin(phi)) / slope, -np.pi, np.pi)
    half = theta / 2
    return 2 * np.sqrt(2) / np.pi * np.radians(lon) * np.cos(half), np.sqrt(2) * np.sin(half)


def draw_sky(figure: Figure) -> str:
    """Return a map of the sky as HTML; empty if no cell has a value."""
    data = figure.data
    assert isinstance(data, SkyData)
    values = array([cell.value for cell in data.cells])
    if not np.isfinite(values).any():
        return ""
    low, high = _ends(values[np.isfinite(values)], data.around)
    centre = _centre(data.cells)
    unit = f" [{data.unit}]" if data.unit else ""
    scale = colour_scale(significant(low), significant(high), escape(f"{data.label}{unit}"))
    note = '<p class="note">Outlined: differs from the others by more than chance.</p>'
    flagged = note if any(cell.flagged for cell in data.cells) else ""
    return (
        on_both(WIDE if figure.wide else HALF, lambda width: _draw(width, figure, data, values, (low, high), centre))
        + scale
        + flagged
    )


def _ends(values: np.ndarray, around: float | None) -> tuple[float, float]:
    low, high = (float(end) for end in np.quantile(values, (0.02, 0.98), method="nearest"))
    if around is not None:
        reach = max(abs(low - around), abs(high - around)) or 1.0
        return around - reach, around + reach
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _centre(cells: list[SkyCell]) -> float:
    """Return the right ascension in the middle of the map: 180 or 0, whichever has fewer cells at the rim."""
    ra = np.array([cell.corners[0][0] % 360 for cell in cells])
    return 180.0 if np.count_nonzero(np.abs(ra - 180) < 90) >= len(ra) / 2 else 0.0


def _draw(
    width: int, figure: Figure, data: SkyData, values: np.ndarray, ends: tuple[float, float], centre: float
) -> str:
    size = (width - 60) / (4 * np.sqrt(2))
    middle, height = width / 2, int(2 * np.sqrt(2) * size) + 40
    levels = level_of(np.where(np.isfinite(values), values, ends[0]), *ends)

    def place(lon: np.ndarray, lat: np.ndarray) -> str:
        x, y = mollweide(lon, lat)
        return path_of(middle + size * x, height / 2 - size * y)

    order = np.argsort([cell.flagged for cell in data.cells], kind="stable")  # outlines lie over other cells
    cells = "".join(
        _cell(data.cells[at], "raw" if np.isnan(values[at]) else f"z{levels[at]}", data, centre, place) for at in order
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(figure.title)}">'
        f"{_graticule(place)}{cells}{_labels(middle, height / 2, size, centre)}</svg>"
    )


def _cell(cell: SkyCell, css: str, data: SkyData, centre: float, place: object) -> str:
    ra, dec = np.array([*cell.corners, cell.corners[0]]).T
    lon = (centre - ra + 180) % 360 - 180  # right ascension grows to the left
    if np.ptp(lon) > 180:  # the cell lies across the rim: draw it at both sides
        lon = np.where(lon < 0, lon + 360, lon)
        sides = [np.clip(lon, None, 180), np.clip(lon - 360, -180, None)]
    else:
        sides = [lon]
    d = "".join(f"{place(_along(side), _along(dec))}Z" for side in sides)  # type: ignore[operator]
    said = "no value" if cell.value is None else f"{data.label} {cell.value:.4g}"
    title = f"{said}, {cell.num} objects, ra {np.mean(ra[:-1]):.1f}, dec {np.mean(dec[:-1]):.1f}"
    flagged = " flagged" if cell.flagged else ""
    return f'<path class="cell {css}{flagged}" d="{d}"><title>{escape(title)}</title></path>'


def _along(values: np.ndarray) -> np.ndarray:
    """Return points along the sides between corners (n,), because straight lines of a sphere are curved here."""
    steps = np.arange(_STEPS * (len(values) - 1) + 1) / _STEPS
    return np.interp(steps, np.arange(len(values)), values)


def _graticule(place: object) -> str:
    lat, lon = np.linspace(-90, 90, 91), np.linspace(-180, 180, 91)
    meridians = [place(np.full(91, at), lat) for at in range(-180, 181, 60)]  # type: ignore[operator]
    parallels = [place(lon, np.full(91, float(at))) for at in (-60, -30, 0, 30, 60)]  # type: ignore[operator]
    return f'<path class="grid" d="{"".join([*meridians, *parallels])}"/>'


def _labels(middle: float, equator: float, size: float, centre: float) -> str:
    texts = []
    for lon in (-120, -60, 0, 60, 120):
        x, _ = mollweide(np.array([float(lon)]), np.zeros(1))
        texts.append((middle + size * float(x[0]), equator + 14, f"{(centre - lon) % 360:.0f}°", "middle"))
    for lat in (-60, -30, 30, 60):
        x, y = mollweide(np.array([-180.0]), np.array([float(lat)]))
        told = f"{lat:+d}°".replace("-", "−")
        texts.append((middle + size * float(x[0]) - 6, equator - size * float(y[0]) + 4, told, "end"))
    return "".join(
        f'<text class="mark" x="{number(x)}" y="{number(y)}" text-anchor="{anchor}">{text}</text>'
        for x, y, text, anchor in texts
    )
