"""Is a candidate better than the version in service, and nowhere worse? Objects judge on which nobody was trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hpctrain.drawing.scale import significant
from hpctrain.errors import GateError
from hpctrain.profile.sections.validate import BinsSection
from hpctrain.validation.bins import bins_of
from hpctrain.validation.comparison.agreement import Shared, agree, refuse_other_labels
from hpctrain.validation.comparison.difference import DRAWS, Difference, compare_tasks
from hpctrain.validation.comparison.entrants import Entrant
from hpctrain.validation.comparison.multiple import holm
from hpctrain.validation.intervals import CONFIDENCE
from hpctrain.validation.tasks.task import HIGHER, Metric

FEWEST = 20
"""Smallest number of objects of a test set, and of a bin that counts."""
FORMAT = "hpctrain-challenge"


@dataclass(frozen=True)
class TestSet:
    """What both models say about the same objects.

    Parameters
    ----------
    name : str
        ``frozen`` or ``newest``.
    champion, candidate : Entrant
        At the same R rows.
    """

    __test__ = False  # for pytest

    name: str
    champion: Entrant
    candidate: Entrant


@dataclass(frozen=True)
class Rules:
    """How to decide.

    Parameters
    ----------
    metrics : tuple of str
        As ``hpctrain compare --metric``; the first one decides.
    allow : float
        Share of the champion's value by which a metric may be worse.
    bins : tuple of BinsSection
        Columns in whose bins the candidate must not be worse.
    confidence : float
    draws : int
    """

    metrics: tuple[str, ...] = ()
    allow: float = 0.0
    bins: tuple[BinsSection, ...] = ()
    confidence: float = CONFIDENCE
    draws: int = DRAWS


@dataclass
class Comparison:
    """One metric of both models on one set of objects.

    Parameters
    ----------
    test_set, task, metric, where : str
        Name of the test set, label, metric, and the bin; empty for all objects.
    label, unit, better : str
        What people call the metric, and which values are better.
    decides : bool
    found : Difference
        Candidate minus champion.
    p_holm : float
        Adjusted for the number of tests.
    """

    test_set: str
    task: str
    metric: str
    where: str
    label: str
    unit: str
    better: str
    decides: bool
    found: Difference
    p_holm: float = 1.0

    @property
    def loss(self) -> float:
        """By how much the candidate is worse; negative if it is better."""
        return -self.found.value if self.better == HIGHER else self.found.value

    def is_better(self, level: float) -> bool:
        """Return whether the candidate is better, and chance does not explain it."""
        return bool(self.p_holm < level) and self.loss < 0

    def is_worse(self, level: float, allow: float) -> bool:
        """Return whether the candidate is worse by more than is allowed, and chance does not explain it."""
        return bool(self.p_holm < level) and self.loss > allow * abs(self.found.first)

    def __str__(self) -> str:
        by, ends = abs(self.found.value), sorted(abs(each) for each in (self.found.low, self.found.high))
        if self.found.low < 0 < self.found.high:
            interval = f"{significant(self.found.low)} to {significant(self.found.high)}"
        else:
            interval = f"{significant(ends[0])} to {significant(ends[1])}"
        where = f" ({self.where})" if self.where else ""
        sign = "better" if self.loss < 0 else "worse"
        share = f", {100 * by / abs(self.found.first):.1f} %" if self.found.first else ""
        unit = f" {self.unit}" if self.unit else ""
        said = f"{significant(self.found.second)}, was {significant(self.found.first)}{unit}"
        what = f"{self.test_set} data{where}: {self.task} {self.label}"
        return f"{what} {said}: {sign} by {significant(by)} ({interval}){share}"


def compare_on(test: TestSet, rules: Rules) -> list[Comparison]:
    """Return all comparisons of two models on a test set: metrics over all objects, the deciding ones in bins.

    Raises
    ------
    GateError
        There are too few objects to compare models on.
    DataError
        The models predict nothing in common, or a column of a bin is missing.
    ProfileError
        There is no metric of a wanted name.
    """
    number = len(np.unique(test.candidate.judged.target_id))
    if number < FEWEST:
        raise GateError(
            f"{number} objects of the {test.name} data are on the test side of the split; it takes {FEWEST} to compare "
            "models. Nothing was promoted"
        )
    entrants = (test.champion, test.candidate)
    refuse_other_labels(entrants)
    found: list[Comparison] = []
    for shared in agree(entrants, rules.metrics).shared:
        group = test.candidate.judged.target_id
        found += _metrics(test.name, shared, group, rules)
        found += _in_bins(test, shared, rules)
    return found


def _metrics(name: str, shared: Shared, group: np.ndarray, rules: Rules) -> Iterator[Comparison]:
    names = [metric.name for metric in shared.metrics]
    made = compare_tasks(shared.tasks[0], shared.tasks[1], names, group, rules.draws, rules.confidence)
    for number, metric in enumerate(shared.metrics):
        yield _comparison(name, shared.title, metric, "", number == 0, made[metric.name])


def _in_bins(test: TestSet, shared: Shared, rules: Rules) -> Iterator[Comparison]:
    judged, metric = (test.champion.judged, test.candidate.judged), shared.metrics[0]
    for section in rules.bins:
        for each in bins_of(judged[1], section):
            group = judged[1].target_id[each.rows]
            if len(np.unique(group)) < FEWEST:
                continue
            parts = [_task_of(own.take(each.rows), shared.title) for own in judged]
            if parts[0] is None or parts[1] is None:
                continue
            made = compare_tasks(parts[0], parts[1], [metric.name], group, rules.draws, rules.confidence)
            where = f"{section.column} {each.label}"
            yield _comparison(test.name, shared.title, metric, where, False, made[metric.name])


def _task_of(judged: Any, title: str) -> Any:
    return next((task for task in judged.tasks if task.title == title), None)


def _comparison(name: str, title: str, metric: Metric, where: str, decides: bool, found: Difference) -> Comparison:
    return Comparison(name, title, metric.name, where, metric.label, metric.unit, metric.better, decides, found)


@dataclass(frozen=True)
class Decision:
    """The outcome of a challenge.

    Parameters
    ----------
    passed : bool
    why : str
        In one sentence.
    comparisons : list of Comparison
    """

    passed: bool
    why: str
    comparisons: list[Comparison]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        listed = [{**asdict(each), "loss": each.loss, "said": str(each)} for each in self.comparisons]
        return {"format": FORMAT, "version": 1, "passed": self.passed, "why": self.why, "comparisons": listed}


def decide(comparisons: Sequence[Comparison], rules: Rules, champion: str) -> Decision:
    """Decide whether a candidate takes the place of the version in service.

    It must be better by the deciding metric on one test set, and worse by no metric, on no test set and in no bin. Each
    of both questions has Holm's correction over its own tests, so that chance answers it wrongly with a probability of
    at most 1 - confidence.

    Parameters
    ----------
    comparisons : sequence of Comparison
    rules : Rules
    champion : str
        Name of the version in service.
    """
    level = 1 - rules.confidence
    deciding = [each for each in comparisons if each.decides]
    for each, adjusted in zip(deciding, holm(np.array([each.found.p for each in deciding])), strict=True):
        each.p_holm = float(adjusted)
    better = [each for each in deciding if each.is_better(level)]
    for each, adjusted in zip(comparisons, holm(np.array([each.found.p for each in comparisons])), strict=True):
        each.p_holm = float(adjusted)
    worse = [each for each in comparisons if each.is_worse(level, rules.allow)]
    if worse:
        why = f"worse than {champion}: {'; '.join(map(str, worse))}"
    elif not better:
        why = f"not better than {champion}: {'; '.join(map(str, deciding))}"
    else:
        others = len(comparisons) - len(better)
        why = f"better than {champion}: {'; '.join(map(str, better))}; worse in none of {others} other comparisons"
    return Decision(bool(better) and not worse, why, list(comparisons))
