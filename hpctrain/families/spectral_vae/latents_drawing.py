"""Draw the two principal directions of the latent space, and the reconstruction error of the held-out spectra."""

from __future__ import annotations

import numpy as np

from hpctrain.drawing.scale import grouped, padded
from hpctrain.drawing.svg import HALF, PHONE, Axes, drawing, legend, on_both
from hpctrain.families.result_files import Arrays
from hpctrain.families.spectral_vae.shown_results import chi2_of, strangeness
from hpctrain.kinds.spectra.layout import SURVEY_PREFIX

NUM_COLORS = 8
MOST_POINTS = 2500
NUM_RINGS = 6
NUM_CLASSES = 5
_CLASS = f"{SURVEY_PREFIX}spectype"
_LEFT, _RIGHT = 52, 20


def latent_figure(latents: Arrays) -> str:
    """Draw the first two principal components of the latent vectors, coloured by redshift; nothing for fewer than 3."""
    vectors = latents["LATENT_VEC"].astype(np.float64)
    redshift = np.asarray(latents.get("redshift", np.full(len(vectors), np.nan)), dtype=np.float64)
    good = np.isfinite(vectors).all(axis=1)
    vectors, redshift = vectors[good], redshift[good]
    if len(vectors) < 3:
        return ""
    components, shares = principal_components(vectors)
    score, is_unusual = (values[good] for values in strangeness(latents))
    ringed = [row for row in np.argsort(-score)[:NUM_RINGS] if is_unusual[row]]
    chosen = np.linspace(0, len(vectors) - 1, min(len(vectors), MOST_POINTS)).astype(np.int64)
    chosen = np.union1d(chosen, np.array(ringed, dtype=np.int64))
    edges = (
        np.unique(np.nanquantile(redshift, np.linspace(0, 1, NUM_COLORS + 1)))
        if np.isfinite(redshift).any()
        else np.empty(0)
    )
    color = np.clip(np.searchsorted(edges, redshift, side="right") - 1, 0, NUM_COLORS - 1) if len(edges) > 1 else None

    def draw(width: int) -> str:
        axes = Axes(_LEFT, 30, width - _LEFT - _RIGHT, 330, *_frame(components, ringed))
        axes.add_grid(
            f"first principal component ({100 * shares[0]:.0f} % of the variance)",
            f"second principal component ({100 * shares[1]:.0f} %)",
            width // 80,
            6,
        )
        for number in range(NUM_COLORS):
            part = chosen[color[chosen] == number] if color is not None else chosen[:0]
            axes.dots(components[part, 0], components[part, 1], f"z{number}", 2.2)
        if color is None:
            axes.dots(components[chosen, 0], components[chosen, 1], "z3", 2.2)
        for row in ringed:
            axes.ring(components[row, 0], components[row, 1], "ink", f"anomaly score {score[row]:.2f}")
        return drawing(width, 412, [axes], "Latent vectors of the held-out spectra, first two principal components")

    return on_both(HALF, draw) + _scale(edges)


def class_figure(latents: Arrays) -> str:
    """Draw the same directions with a colour for each class of the survey; nothing without two classes.

    The report reads the survey's columns of the first objects only; the others are not drawn.
    """
    column = np.asarray(latents.get(_CLASS, np.empty(0, "S1")))
    names = np.char.strip(np.char.decode(column) if column.dtype.kind == "S" else column.astype(str))
    vectors = latents["LATENT_VEC"][: len(names)].astype(np.float64)
    good = np.isfinite(vectors).all(axis=1) & (names != "")
    vectors, names = vectors[good], names[good]
    classes, counts = np.unique(names, return_counts=True)
    if len(classes) < 2 or len(vectors) < 3:
        return ""
    classes = classes[np.argsort(-counts, kind="stable")][:NUM_CLASSES]
    components, _ = principal_components(vectors)

    def draw(width: int) -> str:
        axes = Axes(_LEFT, 30, width - _LEFT - _RIGHT, 330, *_frame(components, []))
        axes.add_grid("first principal component", "second principal component", width // 80, 6)
        for number, name in enumerate(classes):
            part = names == name
            axes.dots(components[part, 0], components[part, 1], f"c{number + 1}", 2.2)
        return drawing(width, 412, [axes], "Latent vectors of the held-out spectra by class")

    return legend([(f"dot c{number + 1}", str(name)) for number, name in enumerate(classes)]) + on_both(HALF, draw)


def principal_components(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first two principal components of the vectors, and the share of the variance of each.

    Parameters
    ----------
    vectors : ndarray, shape (N, S)

    Returns
    -------
    components : ndarray, shape (N, 2)
        The second is zero if S is one.
    shares : ndarray, shape (2,)
    """
    centred = vectors - vectors.mean(axis=0)
    values, directions = np.linalg.eigh(centred.T @ centred)
    order = np.argsort(values)[::-1][:2]
    components = centred @ directions[:, order]
    components *= np.sign(components[np.abs(components).argmax(axis=0), np.arange(len(order))])  # one of two signs
    shares = values[order] / max(values.sum(), 1e-30)
    if len(order) < 2:
        return np.column_stack([components, np.zeros(len(components))]), np.array([shares[0], 0.0])
    return components, shares


def chi2_histogram(latents: Arrays) -> str:
    """Draw the distribution of chi-square per pixel of the held-out spectra; nothing for fewer than eight.

    The axis is logarithmic, because most spectra are near 1 and a few are far larger.
    """
    chi2 = chi2_of(latents)
    positive = chi2[chi2 > 0]
    if len(positive) < 8:
        return ""
    low, high = np.quantile(positive, (0.0, 0.99))
    low, high = min(float(low) / 1.05, 0.85), max(float(high) * 1.05, 1.25)
    counts, edges = np.histogram(positive, bins=np.geomspace(low, high, min(44, max(10, len(positive) // 6)) + 1))
    beyond = int((positive > high).sum())
    median = float(np.median(chi2))

    def draw(width: int) -> str:
        limits = (0.0, float(counts.max()) * (1.25 if width > PHONE else 1.5))
        axes = Axes(_LEFT, 30, width - _LEFT - _RIGHT, 330, (low, high), limits, x_kind="log")
        axes.add_grid("χ² per pixel (logarithmic)", "held-out spectra", width // 80, 6)
        for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
            if count:
                axes.bar(left, right, 0, count, "fill c2", f"{count} spectra between {left:.3g} and {right:.3g}")
        axes.vertical(1.0, "reference", "1: the noise")
        axes.vertical(median, "median", title=f"median {median:.3f}")
        return drawing(width, 412, [axes], "Distribution of chi-square per pixel of the held-out spectra")

    note = f"Solid line: the median, {median:.3g}."
    if chi2.mean() > 1.3 * median:
        note += " A few spectra with a large χ² make the mean higher."
    if beyond:
        note += f" Beyond the right edge: {beyond}."
    return f'{on_both(HALF, draw)}<p class="note">{note}</p>'


def _frame(components: np.ndarray, ringed: list[int]) -> list[tuple[float, float]]:
    return [_limits(components[:, axis], components[ringed, axis]) for axis in (0, 1)]


def _limits(values: np.ndarray, always: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.002, 0.998))
    low, high = min([low, *always]), max([high, *always])
    return padded(float(low), float(high), 0.06)


def _scale(edges: np.ndarray) -> str:
    if len(edges) < 2:
        return ""
    boxes = "".join(f'<i class="z{number}"></i>' for number in range(len(edges) - 1))
    middle = f"{edges[len(edges) // 2]:.2f}"
    return (
        '<div class="colorbar"><span>redshift</span>'
        f"<span>{grouped(edges[0], 2)}</span><b>{boxes}</b><span>{grouped(edges[-1], 2)}</span>"
        f"<span>median {middle}, equal numbers in each colour</span></div>"
    )
