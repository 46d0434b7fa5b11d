"""Draw a chart as a PNG, SVG or PDF file with matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.drawing.chart.parts import MODEL, POINTS, Chart, Panel, stretched
from hpctrain.errors import Problem, ProfileError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")


def save_picture(chart: Chart, path: Path) -> None:
    """Write a chart into a file, whose suffix says how.

    Raises
    ------
    ProfileError
        The suffix is another one, or the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ProfileError("command line", [Problem("-o", f"{path} must end in one of {', '.join(FORMATS)}")])
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [4.0 if panel.image is not None else 2.6 for panel in chart.panels]
    figure = Figure(figsize=(9.0, sum(heights) + 0.6), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    figure.suptitle(chart.title, fontsize=10)
    all_axes = figure.subplots(len(chart.panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, axes in zip(chart.panels, all_axes, strict=True):
        _draw(panel, axes)
    try:
        figure.savefig(path)
    except OSError as error:
        raise ProfileError("command line", [Problem("-o", f"{path} cannot be written: {error.strerror}")]) from error


def _draw(panel: Panel, axes: Axes) -> None:
    axes.set_title(panel.title, fontsize=9)
    if panel.image is not None:
        axes.imshow(stretched(panel.image), origin="lower", cmap="gray", interpolation="nearest")
        axes.set_axis_off()
        return
    for curve in panel.curves:
        if curve.style == POINTS:
            axes.errorbar(curve.x, curve.y, curve.error, fmt=".", markersize=4, elinewidth=0.6, label=curve.name)
        else:
            above = curve.style == MODEL
            axes.plot(curve.x, curve.y, lw=1.2 if above else 0.7, zorder=3 if above else 2, label=curve.name)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    for name, place in panel.marks:
        axes.axvline(place, color="0.6", lw=0.6, ls=":", zorder=1)
        axes.annotate(
            name, (place, 1), xycoords=("data", "axes fraction"), rotation=90, fontsize=7, va="top", ha="right"
        )
    if panel.log_y:
        axes.set_yscale("log")
    if panel.flip_y:
        axes.invert_yaxis()
    if len(panel.curves) > 1:
        axes.legend(fontsize=8)
