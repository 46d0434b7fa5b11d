"""A chart of one image: a panel per band."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpctrain.drawing.chart.parts import Chart, Panel


def image_chart(title: str, image: np.ndarray, bands: Sequence[str] = ()) -> Chart:
    """Return a panel per band.

    Parameters
    ----------
    title : str
    image : ndarray, shape (B, H, W)
    bands : sequence of str
        Names of the bands; numbers by default.
    """
    names = list(bands) if len(bands) == len(image) else [str(number) for number in range(len(image))]
    return Chart(
        title, [Panel(f"band {name}", image=one.astype(np.float64)) for name, one in zip(names, image, strict=True)]
    )
