"""What a chart shows: panels below each other, each with lines, points, marks, or an image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

LINE, POINTS, MODEL = "line", "points", "model"


@dataclass(frozen=True)
class Curve:
    """Values along x.

    Parameters
    ----------
    name : str
    x, y : ndarray, shape (n,)
        NaN interrupts a line.
    style : str
        ``line``, ``points``, or ``model``: a line that is drawn over the others.
    error : ndarray, shape (n,), optional
        Standard deviation of `y`.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    style: str = LINE
    error: np.ndarray | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Parameters
    ----------
    title, x_label, y_label : str
    curves : list of Curve
    marks : list of (str, float)
        Name and place along x of what is marked, such as a spectral line.
    image : ndarray, shape (H, W), optional
        Instead of curves; drawn from low (black) to high (white), the first row at the bottom.
    log_y : bool
        Whether the y axis is logarithmic; values that are not positive are left out.
    flip_y : bool
        Whether large values are at the bottom, as magnitudes are drawn.
    """

    title: str
    x_label: str = ""
    y_label: str = ""
    curves: list[Curve] = field(default_factory=list)
    marks: list[tuple[str, float]] = field(default_factory=list)
    image: np.ndarray | None = None
    log_y: bool = False
    flip_y: bool = False


@dataclass(frozen=True)
class Chart:
    """Panels below each other.

    Parameters
    ----------
    title : str
    panels : list of Panel
    """

    title: str
    panels: list[Panel]


def stretched(image: np.ndarray) -> np.ndarray:
    """Return an image scaled to 0 to 1 by an arcsinh stretch between its 1st and 99.5th percentile, shape (H, W).

    Pixels that are not finite become 0. Faint structure stays visible beside a bright core.
    """
    finite = image[np.isfinite(image)]
    if not len(finite):
        return np.zeros_like(image, dtype=np.float64)
    low, high = np.percentile(finite, [1, 99.5])
    share = np.clip((image - low) / ((high - low) or 1.0), 0, 1)
    return np.nan_to_num(np.arcsinh(10 * share) / np.arcsinh(10.0))
