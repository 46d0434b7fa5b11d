"""Test whether an export is as good as the original: results on held-out spectra, in bins, before and after.

N spectra, S latents. A gate compares numbers of the network before and after, over all spectra and in each bin of
signal to noise ratio and of redshift, because an average can hide that faint or distant objects are lost.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hpctrain.profile.sections.edge import EdgeSection, GatesSection

NEIGHBOURS = 5
"""Number of neighbours of the class metric; odd, so that two classes cannot tie."""

_NUM_BINS = 4

PASSED, FAILED, TOO_FEW = "passed", "FAILED", "too few"


@dataclass(frozen=True)
class Seen:
    """Results of a network on the held-out spectra.

    Parameters
    ----------
    latents : ndarray, shape (N, S), float32
        NaN where a spectrum has none.
    chi2 : ndarray, shape (N,), float32
        Reduced chi-square of the reconstruction.
    anomaly : ndarray, shape (N,), float32
        Anomaly score.
    class_found : ndarray of str, shape (N,), or None
        Class of the nearest training spectra.
    """

    latents: np.ndarray
    chi2: np.ndarray
    anomaly: np.ndarray
    class_found: np.ndarray | None = None


@dataclass(frozen=True)
class Bin:
    """A subset of the held-out spectra.

    Parameters
    ----------
    by : str
        ``all``, ``S/N`` or ``redshift``.
    name : str
        Range of the bin, as text.
    members : ndarray of bool, shape (N,)
    """

    by: str
    name: str
    members: np.ndarray

    def __str__(self) -> str:
        return self.by if self.by == "all" else f"{self.by} {self.name}"


@dataclass(frozen=True)
class Verdict:
    """One gate in one bin.

    Parameters
    ----------
    gate : str
    where : str
        The bin.
    num_spectra : int
    before, after : float or None
        The numbers that are compared; None where the gate has one number for both networks together.
    found : float or None
        The number that is judged; None if there are too few spectra, or it is not a number.
    limit : float
    verdict : str
        ``passed``, ``FAILED`` or ``too few``.
    """

    gate: str
    where: str
    num_spectra: int
    before: float | None
    after: float | None
    found: float | None
    limit: float
    verdict: str

    @property
    def name(self) -> str:
        return f"{self.gate}, {self.where}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``bundle.json``; ``passed`` is absent if there were too few spectra to judge."""
        judged = {} if self.verdict == TOO_FEW else {"passed": self.verdict == PASSED}
        return {"name": self.name, **asdict(self), **judged}


def make_bins(snr: np.ndarray, redshift: np.ndarray, edge: EdgeSection, usable: np.ndarray) -> list[Bin]:
    """Divide the held-out spectra into bins.

    Parameters
    ----------
    snr, redshift : ndarray, shape (N,)
    edge : EdgeSection
        Section with the edges of the bins; without edges there, the quartiles of the usable spectra are the edges.
    usable : ndarray of bool, shape (N,)
        Spectra that may belong to a bin.

    Returns
    -------
    list of Bin
        The bin of all spectra, then those of signal to noise ratio, then those of redshift.
    """
    bins = [Bin("all", "", usable)]
    for by, values, edges in (("S/N", snr, edge.snr_edges), ("redshift", redshift, edge.redshift_edges)):
        if edges is None:
            inner = np.linspace(0, 1, _NUM_BINS + 1)[1:-1]
            edges = np.unique(np.quantile(values[usable], inner)).tolist() if usable.any() else []
        limits = [-np.inf, *edges, np.inf]
        for low, high in itertools.pairwise(limits):
            name = f"< {high:.3g}" if low == -np.inf else f">= {low:.3g}"
            if np.isfinite([low, high]).all():
                name = f"{low:.3g} to {high:.3g}"
            bins.append(Bin(by, name, usable & (values >= low) & (values < high)))
    return bins


def judge(
    trained: Seen, converted: Seen, after: Seen, bins: Sequence[Bin], gates: GatesSection, labels: np.ndarray | None
) -> list[Verdict]:
    """Judge an export by all gates in all bins.

    Parameters
    ----------
    trained : Seen
        Results of the network of the run.
    converted : Seen
        Results of the network that the graph was made from: the pruned one in PyTorch, or the run's.
    after : Seen
        Results of the exported graph.
    bins : sequence of Bin
    gates : GatesSection
    labels : ndarray of str, shape (N,), optional
        True classes.
    """
    verdicts: list[Verdict] = []
    spread = np.nanstd(converted.latents[bins[0].members], axis=0) if bins[0].members.any() else np.ones(1)
    for chosen in bins:
        members = chosen.members

        def add(
            gate: str,
            limit: float | None,
            compute: Callable[[], tuple],
            is_bad: Callable[[float, float], bool],
            where: Bin = chosen,
        ) -> None:
            if limit is None:
                return
            number = int(where.members.sum())
            if number < gates.min_spectra:
                verdicts.append(Verdict(gate, str(where), number, None, None, None, limit, TOO_FEW))
                return
            before, later, found = compute()
            failed = not np.isfinite(found) or is_bad(found, limit)
            values = [None if value is None or not np.isfinite(value) else float(value) for value in (before, later)]
            shown = float(found) if np.isfinite(found) else None
            verdicts.append(Verdict(gate, str(where), number, *values, shown, limit, FAILED if failed else PASSED))

        add("chi2", gates.chi2, lambda m=members: _chi2(trained, after, m), _above)
        add("latent_error", gates.latent_error, lambda m=members: _latents(converted, after, m, spread), _above)
        add("anomaly_rank", gates.anomaly_rank, lambda m=members: _rank(converted, after, m), _below)
        if trained is not converted:
            add("pruned_anomaly_rank", gates.pruned_anomaly_rank, lambda m=members: _rank(trained, after, m), _below)
        if labels is not None:
            add("class_f1", gates.class_f1, lambda m=members: _classes(trained, after, m, labels), _above)
    return verdicts


def _above(found: float, limit: float) -> bool:
    return found > limit


def _below(found: float, limit: float) -> bool:
    return found < limit


def _chi2(before: Seen, after: Seen, members: np.ndarray) -> tuple[float, float, float]:
    """Return median before and after and the relative rise; a spectrum without reconstruction counts as infinite."""
    first = float(np.median(before.chi2[members]))
    second = float(np.median(np.where(np.isfinite(after.chi2[members]), after.chi2[members], np.inf)))
    return first, second, second / first - 1 if first > 0 else np.nan


def _latents(before: Seen, after: Seen, members: np.ndarray, spread: np.ndarray) -> tuple[None, None, float]:
    """Return the rms difference over all latents of the bin, each in units of its standard deviation over all spectra.

    A latent that does not vary carries no information and is left out.
    """
    alive = spread > 1e-6 * max(float(spread.max()), 1e-30)
    difference = (after.latents[members] - before.latents[members])[:, alive] / spread[alive]
    return None, None, float(np.sqrt(np.mean(np.square(difference, dtype=np.float64))))


def _rank(before: Seen, after: Seen, members: np.ndarray) -> tuple[None, None, float]:
    """Return the Spearman correlation of the anomaly scores."""
    from scipy.stats import rankdata

    if not np.isfinite(after.anomaly[members]).all():
        return None, None, np.nan
    first, second = rankdata(before.anomaly[members]), rankdata(after.anomaly[members])
    if first.std() == 0 or second.std() == 0:
        return None, None, 1.0 if np.array_equal(first, second) else np.nan
    return None, None, float(np.corrcoef(first, second)[0, 1])


def _classes(before: Seen, after: Seen, members: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Return the macro-averaged F1 before and after, and the drop."""
    first = macro_f1(labels[members], before.class_found[members])
    second = macro_f1(labels[members], after.class_found[members])
    return first, second, first - second


def macro_f1(true: np.ndarray, found: np.ndarray) -> float:
    """Return the mean of F1, the harmonic mean of purity and completeness, over the classes that occur.

    Parameters
    ----------
    true, found : ndarray of str, shape (N,)

    References
    ----------
    .. [1] Opitz & Burst 2019, "Macro F1 and Macro F1", arXiv:1911.03347: the mean of F1, not the F1 of means.
    """
    scores = []
    for name in np.unique(true):
        hits = np.sum((true == name) & (found == name))
        scores.append(2.0 * hits / (np.sum(true == name) + np.sum(found == name)))
    return float(np.mean(scores))


def nearest_classes(train_latents: np.ndarray, train_labels: np.ndarray, latents: np.ndarray) -> np.ndarray:
    """Return the class of each object by its nearest training objects; latents are scaled to unit spread.

    Parameters
    ----------
    train_latents : ndarray, shape (M, S)
        Finite.
    train_labels : ndarray of str, shape (M,)
    latents : ndarray, shape (N, S)
        A row that is not finite gets the class ``""``.
    """
    from sklearn.neighbors import KNeighborsClassifier

    found = np.full(len(latents), "", dtype=object)
    finite = np.isfinite(latents).all(axis=1)
    scale = np.where(train_latents.std(axis=0) > 0, train_latents.std(axis=0), 1.0)
    classifier = KNeighborsClassifier(n_neighbors=min(NEIGHBOURS, len(train_latents)))
    classifier.fit(train_latents / scale, train_labels)
    if finite.any():
        found[finite] = classifier.predict(latents[finite] / scale)
    return found


def failures(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the gates that failed."""
    return [verdict for verdict in verdicts if verdict.verdict == FAILED]


def gate_table(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the verdicts as lines of a table; bins without enough spectra are listed in one line."""
    rows = [("gate", "spectra", "number", "before", "after", "found", "allowed", "")]
    for verdict in verdicts:
        if verdict.verdict != TOO_FEW:
            numbers = [_number(value) for value in (verdict.before, verdict.after, verdict.found)]
            allowed = f"{'>=' if verdict.gate.endswith('rank') else '<='} {verdict.limit:g}"
            rows.append((verdict.gate, verdict.where, f"{verdict.num_spectra:,}", *numbers, allowed, verdict.verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    few = {verdict.where: verdict.num_spectra for verdict in verdicts if verdict.verdict == TOO_FEW}
    if few:
        lines.append(
            "not judged, too few spectra: " + ", ".join(f"{where} ({number})" for where, number in few.items())
        )
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
