"""The words that users read: numbers, sizes and durations, and what a run calls its samples and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Metric:
    """A metric of an evaluation that log and Prometheus show beside the loss.

    Parameters
    ----------
    name : str
        Name in ``metrics.jsonl``.
    label : str
        What the log calls it, such as ``accuracy``.
    meaning : str
        What it measures, for the help text of Prometheus: starts with a capital letter, has no full stop.
    """

    name: str
    label: str
    meaning: str


@dataclass(frozen=True)
class Words:
    """What users call the samples and metrics of a run; the default is for data of an unknown kind.

    Parameters
    ----------
    one, many : str
        A sample and several samples, such as ``spectrum`` and ``spectra``.
    counted : mapping of str to str
        What a count of the event ``bad_pixels`` means, by the name of the count. A text names the counts that it needs
        in braces, such as ``{num_bad_values} values have been masked``. A count that no text names is shown by its
        name.
    metrics : tuple of Metric
        Metrics that are shown beside the loss, in this order.
    """

    one: str = "sample"
    many: str = "samples"
    counted: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()

    @property
    def count_field(self) -> str:
        """Name in ``metrics.jsonl`` of a number of samples, such as ``num_spectra``."""
        return f"num_{self.many.replace(' ', '_')}"

    def in_words(self, counts: Mapping[str, int]) -> list[str]:
        """Return a text for each of the counts that is not 0, except for the number of samples itself.

        Parameters
        ----------
        counts : mapping of str to int
            Counts by their name in ``metrics.jsonl``; one that a text needs may be absent.
        """
        found = {name: number for name, number in counts.items() if number and name != self.count_field}
        templates = [text for name, text in self.counted.items() if name in found]
        texts = [text.format_map(_Known(counts)) for text in templates]
        explained = [name for name in found if any(f"{{{name}}}" in text for text in templates)]
        other = [name for name in found if name not in explained]
        return texts + [f"{counts[name]} {name.removeprefix('num_').replace('_', ' ')}" for name in other]


class _Known(dict):
    """Counts for a text; a damaged record may lack one."""

    def __missing__(self, name: str) -> str:
        return "?"


def format_duration(seconds: float) -> str:
    """Return a duration with its two largest units: ``42 s``, ``3 min 20 s``, ``5 h 07 min``, ``2 d 03 h``."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600:02d} h"


def format_short_duration(seconds: float) -> str:
    """Return a duration for a narrow column: ``95`` becomes ``1m35s``, ``200000`` becomes ``2d07h``."""
    seconds = round(seconds)
    for unit, name, smaller, smaller_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= unit:
            return f"{seconds // unit}{name}{seconds % unit // smaller:02d}{smaller_name}"
    return f"{seconds}s"


def format_count(value: float) -> str:
    """Return a rate or count with three digits: ``7.25``, ``842``, ``12.3k``, ``4.1M``."""
    number, suffix = _scaled(value)
    return f"{number}{suffix}"


def format_bytes(size: float) -> str:
    """Return a size in decimal units, as vendors of disks use them: ``162 MB``."""
    number, suffix = _scaled(size)
    return f"{number} {suffix}B"


def _scaled(value: float) -> tuple[str, str]:
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit:.3g}", suffix
    return f"{value:.3g}", ""


def format_number(value: float | None, none: str = "not finite") -> str:
    """Return a number with four digits; `none` stands for one that was not finite, or that is not known."""
    return none if value is None else f"{value:.4g}"


def is_number(text: str) -> bool:
    """Say whether a text, such as a cell of a table, is a number as Python writes one."""
    try:
        float(text)
    except ValueError:
        return False
    return True
