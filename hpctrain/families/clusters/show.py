"""What the report shows of clusters: candidates, sizes, prototypes, classes, outliers, a picture. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from hpctrain.drawing.scale import DASH, grouped, padded, significant
from hpctrain.drawing.svg import WIDE, Axes, drawing, legend, num_ticks, on_both
from hpctrain.drawing.table import table
from hpctrain.families.clusters.trials import NAMES
from hpctrain.families.predictions_panel import PREDICTIONS
from hpctrain.families.result_files import Arrays
from hpctrain.families.shown import Card, Panel

FILE = "clusters.npz"
Results = Mapping[str, Arrays]

MOST_INPUTS = 8
"""Largest number of inputs in a table of objects; the file has all."""
_METHODS = {"kmeans": "K-means", "mixture": "A mixture of normal distributions", "hdbscan": "HDBSCAN"}
_COLOURS = (0, 7, 3, 5, 1, 6, 2, 4)
"""Colours of the first clusters; neighbours are far apart."""
_STABLE, _DISSOLVES = 0.75, 0.5
_SCORES = {"ari": "adjusted Rand index", "nmi": "normalised mutual information", "purity": "purity"}


def cards(results: Results) -> list[Card]:
    """Return number of clusters, stability, and agreement with the label."""
    found = results.get(FILE)
    if found is None:
        return []
    number, chosen = len(found["sizes"]) - 1, int(found["chosen"])
    remark = f"{significant(100 * _share_of_noise(found))} % noise" if str(found["method"]) == "hdbscan" else ""
    shown = [Card("Clusters", str(number), remark or f"by {_METHODS[str(found['method'])]}")]
    if chosen >= 0 and np.isfinite(mean := float(_trial(found, chosen, "agreement"))):
        spread = significant(_trial(found, chosen, "spread"))
        text = f"adjusted Rand index between {int(found['num_resamples'])} resamples, scatter {spread}"
        shown.append(Card("Stability", f"{mean:.3f}", text))
    if "ari" in found:
        value, low, high = found["ari"].tolist()
        text = f"95 % interval {low:.3f} to {high:.3f}; NMI {found['nmi'][0]:.3f}, purity {found['purity'][0]:.3f}"
        shown.append(Card("ARI with the label", f"{value:.3f}", text))
    return shown


def fit_sentence(results: Results) -> str:
    """Return one sentence on the clusters; empty without the file."""
    found = results.get(FILE)
    if found is None:
        return ""
    number = len(found["sizes"]) - 1
    stability = found["stability"]
    text = f"{_METHODS[str(found['method'])]} finds {number} cluster{'' if number == 1 else 's'}"
    if len(known := stability[np.isfinite(stability)]):
        text += f", {int((known >= _STABLE).sum())} of them stable (a Jaccard similarity of {_STABLE:g} or more)"
    if "ari" in found:
        text += f"; their adjusted Rand index with the label of held-out objects is {found['ari'][0]:.3f}"
    return f"{text}."


def candidate_table(results: Results) -> str:
    """Return the numbers of all candidates as HTML; the chosen one is marked."""
    found = results[FILE]
    is_density = str(found["method"]) == "hdbscan"
    names = {"num_clusters": "clusters", "noise": "noise", "bic": "BIC", "silhouette": "silhouette"}
    names |= {"agreement": "stability", "spread": "its scatter"}
    kept = [name for name in names if np.isfinite(found["trials"][:, NAMES.index(name)]).any()]
    kept = [name for name in kept if name not in (() if is_density else ("noise", "num_clusters"))]
    heads = ["smallest cluster" if is_density else "clusters", *(names[name] for name in kept), ""]
    rows = []
    for number, candidate in enumerate(found["candidates"].tolist()):
        notes = ["chosen"] if number == int(found["chosen"]) else []
        if _trial(found, number, "converged") == 0:
            notes.append("not converged")
        cells = [_cell(_trial(found, number, name)) for name in kept]
        rows.append([grouped(candidate), *cells, ", ".join(notes)])
    how = {"bic": "the lowest BIC", "silhouette": "the largest silhouette", "stability": "the most stable clusters"}
    note = (
        f"The run chose {how[str(found['chooses_by'])]}. Stability: mean adjusted Rand index between the fits to "
        f"{int(found['num_resamples'])} resamples of the training objects (1: the same clusters, 0: no more than by "
        "chance). A high silhouette or stability does not say that the clusters are of different kinds."
    )
    return f'{table(heads, rows)}<p class="note">{note}</p>'


def cluster_table(results: Results) -> str:
    """Return sizes, stability and medoids of the clusters as HTML."""
    found = results[FILE]
    names, number = found["names"].tolist(), len(found["sizes"]) - 1
    total = max(int(found["sizes"].sum()), 1)
    heads = ["Cluster", "Objects", "Share", "Stability", "Medoid", *names[:MOST_INPUTS]]
    rows = []
    for cluster in range(number):
        inputs = [_cell(value) for value in found["medoid_inputs"][cluster, :MOST_INPUTS].tolist()]
        size, stability = int(found["sizes"][cluster]), float(found["stability"][cluster])
        word = " dissolves" if stability < _DISSOLVES else " weak" if stability < _STABLE else ""
        cells = [str(cluster), grouped(size), f"{100 * size / total:.1f} %", f"{_cell(stability)}{word}"]
        rows.append([*cells, str(int(found["medoid_id"][cluster])), *map(escape, inputs)])
    noise = int(found["sizes"][-1])
    rest = f" {grouped(noise)} training objects are noise ({100 * noise / total:.1f} %)." if noise else ""
    note = (
        f"Training objects.{rest} Stability of a cluster: mean Jaccard similarity with the most similar cluster of "
        f"each resample; {_STABLE:g} and more is stable, below {_DISSOLVES:g} it dissolves. The medoid is the object "
        f"with the smallest mean distance to the others; its inputs are as in the file.{_more_inputs(names)}"
    )
    return f'{picture(results)}{table(heads, rows)}<p class="note">{note}</p>'


def picture(results: Results) -> str:
    """Draw the held-out objects in the first two principal components of the scaled inputs, a colour per cluster."""
    found = results[FILE]
    places, cluster = found["seen"].astype(np.float64), found["seen_cluster"]
    good = np.isfinite(places).all(axis=1)
    places, cluster = places[good], cluster[good]
    if len(places) < 3:
        return ""
    number = min(len(found["sizes"]) - 1, len(_COLOURS))
    limits = [padded(*np.quantile(places[:, axis], (0.002, 0.998)).tolist(), 0.06) for axis in (0, 1)]

    def draw(width: int) -> str:
        axes = Axes(52, 30, width - 72, 330, *limits)
        axes.add_grid("first principal component of the scaled inputs", "second", num_ticks(width), 6)
        axes.dots(*places[(cluster < 0) | (cluster >= len(_COLOURS))].T, "raw", 1.8)
        for each in range(number):
            axes.dots(*places[cluster == each].T, f"z{_COLOURS[each]}", 2.2)
        return drawing(width, 412, [axes], "Held-out objects in two principal components, coloured by cluster")

    entries = [(f"dot z{_COLOURS[each]}", f"cluster {each}") for each in range(number)]
    return legend(entries) + on_both(WIDE, draw)


def class_table(results: Results) -> str:
    """Return how many held-out objects each cluster has of each class, as HTML; nothing without a label."""
    found = results[FILE]
    if "table" not in found:
        return ""
    counts, classes = found["table"], found["classes"].tolist()
    rows = []
    for cluster, row in enumerate(counts):
        if cluster == len(counts) - 1 and not row.sum():
            continue
        name = "noise" if cluster == len(counts) - 1 else str(cluster)
        top = f"{escape(str(classes[int(row.argmax())]))} {100 * row.max() / row.sum():.0f} %" if row.sum() else DASH
        rows.append([name, *(grouped(int(value)) for value in row), top])
    scores = "; ".join(
        f"{title} {found[name][0]:.3f} ({found[name][1]:.3f} to {found[name][2]:.3f})"
        for name, title in _SCORES.items()
        if name in found
    )
    note = (
        f"Held-out objects with a label, with 95 % intervals of a bootstrap over them: {scores}. Noise counts as a "
        "cluster. Purity grows with the number of clusters."
    )
    return f'{table(["Cluster", *map(str, classes), "Mostly"], rows)}<p class="note">{note}</p>'


def outlier_table(results: Results) -> str:
    """Return the held-out objects that are farthest from all clusters, as HTML."""
    found = results[FILE]
    names = found["names"].tolist()
    rows = []
    for place, target_id in enumerate(found["outlier_id"].tolist()):
        cluster = int(found["outlier_cluster"][place])
        inputs = [_cell(value) for value in found["outlier_inputs"][place, :MOST_INPUTS].tolist()]
        rank = f"{100 * float(found['outlier_rank'][place]):.1f} %"
        cells = [str(target_id), str(cluster) if cluster >= 0 else "noise", rank]
        rows.append([*cells, _cell(float(found["outlier_distance"][place])), *map(escape, inputs)])
    if not rows:
        return ""
    note = (
        f"The {len(rows)} held-out objects farthest from all clusters. Rank: share of the training objects that are "
        f"closer.{_more_inputs(names)}"
    )
    heads = ["Object", "Cluster", "Rank", "Distance", *names[:MOST_INPUTS]]
    return f'{table(heads, rows)}<p class="note">{note}</p>'


def _trial(found: Arrays, candidate: int, name: str) -> float:
    return float(found["trials"][candidate, NAMES.index(name)])


def _share_of_noise(found: Arrays) -> float:
    return float(found["sizes"][-1]) / max(float(found["sizes"].sum()), 1.0)


def _cell(value: float) -> str:
    return significant(float(value)) if np.isfinite(value) else DASH


def _more_inputs(names: list[str]) -> str:
    more = len(names) - MOST_INPUTS
    return f" {more} more inputs are in results/{FILE}." if more > 0 else ""


PANELS = (
    Panel("clusters", "Clusters", (FILE,), cluster_table),
    Panel("classes", "Clusters and known classes", (FILE,), class_table),
    Panel("candidates", "How many clusters", (FILE,), candidate_table),
    Panel("outliers", "Objects far from all clusters", (FILE,), outlier_table),
    PREDICTIONS,
)
