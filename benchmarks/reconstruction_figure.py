"""The figure of benchmarks/reconstruction.py: reduced chi-square of held-out spectra against latent size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from hpctrain.families.spectral_vae.figures import BLUE, GREY, INK, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = {
    "PCA, scores fitted": ("PCA, scores fitted", {"color": INK, "marker": "s", "linestyle": "-"}),
    "spender": ("spender", {"color": VERMILION, "marker": "^", "linestyle": "-"}),
    "one pass": ("spectral_vae, one pass", {"color": BLUE, "marker": "o", "linestyle": "-"}),
    "+1": (
        "spectral_vae, one refinement",
        {"color": BLUE, "marker": "o", "linestyle": "--", "markerfacecolor": "white"},
    ),
}
"""Label and style of each method."""

TICKS = (1, 1.05, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3, 4, 5, 7, 10, 20, 50, 100, 200, 500)
"""Ticks of reduced chi-square on its logarithmic axis."""


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw median and mean against latent size for each method of the records of the benchmark, and save the figure.

    A point is the mean over the seeds of a method, a bar reaches from the lowest to the highest of them.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True)
    for axes, (title, statistic) in zip(panels, (("median", np.median), ("mean", np.mean)), strict=True):
        for name, (label, style) in LINES.items():
            sizes, values = _values(rows, name, statistic)
            if sizes:
                middle = np.array([np.mean(found) for found in values])
                low, high = (np.array([end(found) for found in values]) for end in (min, max))
                axes.errorbar(sizes, middle, [middle - low, high - middle], label=label, capsize=3, **style)
        _finish(axes, title, sorted({row["latent_size"] for row in rows}))
    panels[0].legend(frameon=False, labelcolor=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "hpctrain"}):
        figure.savefig(path, dpi=160, metadata={"Date": None} if path.suffix == ".svg" else None)


def _values(rows: Sequence[dict[str, Any]], name: str, statistic: Any) -> tuple[list[int], list[list[float]]]:
    """Return the latent sizes for which there is a method, and the statistic of each of its seeds."""
    sizes, values = [], []
    for size in sorted({row["latent_size"] for row in rows}):
        chosen = [row["chi2"] for row in rows if row["latent_size"] == size]
        names = [key for key in chosen[0] if key == name or key.startswith(f"{name}, seed ")]
        if names:
            sizes.append(size)
            values.append([float(statistic([chi2[key] for chi2 in chosen])) for key in names])
    return sizes, values


def _finish(axes: Axes, title: str, sizes: Sequence[int]) -> None:
    """Add the noise, scales and labels."""
    axes.axhline(1, color=GREY, linewidth=3, zorder=0, label="noise")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("latent size", color=INK)
    axes.set_ylabel(f"{title} reduced χ² of held-out spectra", color=INK)
    axes.set_yscale("log")
    axes.set_yticks(_ticks(*axes.get_ylim()))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.tick_params(colors=INK)
    axes.grid(axis="y", color=GREY, alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _ticks(low: float, high: float) -> list[float]:
    """Return the round numbers in a range that are at least 5 % of its logarithmic axis apart."""
    chosen: list[float] = []
    for tick in TICKS:
        if low <= tick <= high and (not chosen or np.log(tick / chosen[-1]) > 0.05 * np.log(high / low)):
            chosen.append(tick)
    return chosen
