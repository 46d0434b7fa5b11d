"""What a model family shows of itself: curves, cards and panels of the report, and columns of tables. No torch here.

A run's report has curves of losses and of the machine, attempts and provenance for every family. A family adds its own
numbers and figures by the methods of :class:`~hpctrain.families.family.Family` that return these. If one of them
raises an exception, the report says so among its things to know, and shows the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpctrain.families.result_files import Arrays

FEW_HELD_OUT = 20
"""Smallest number of held-out samples whose mean is reliable."""


@dataclass(frozen=True)
class Card:
    """A key number at the top of the report: its name, its value, and a remark below."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Column:
    """What a column of predictions means.

    Parameters
    ----------
    unit : str
        Unit as astropy writes it, or in words; empty for none.
    description : str
    """

    unit: str = ""
    description: str = ""


@dataclass(frozen=True)
class Curve:
    """A figure of the report that shows one metric against the step.

    Parameters
    ----------
    metric : str
        Name in the records ``train`` and ``eval`` of ``metrics.jsonl``.
    title : str
    unit : str
        Label of the axis; the metric by default.
    label : str
        Short name in texts; the metric by default.
    caption : str
        Text beside the title; only the figure of the loss shows it.
    ideal : float, optional
        Value that a perfect model has, drawn as a line.
    ideal_label : str
        Text at this line.
    log : bool, optional
        Whether the axis is logarithmic; by default if positive values span more than a factor of four.
    training : bool
        Whether the values in training are drawn, and not only those of evaluations.
    first : bool
        Whether the figure comes before those of throughput, gradient norm and learning rate.
    """

    metric: str
    title: str
    unit: str = ""
    label: str = ""
    caption: str = ""
    ideal: float | None = None
    ideal_label: str = ""
    log: bool | None = None
    training: bool = True
    first: bool = True

    @property
    def axis(self) -> str:
        """Label of the axis."""
        return self.unit or self.metric.replace("_", " ")

    @property
    def short(self) -> str:
        """Name in texts."""
        return self.label or self.metric.replace("_", " ")


@dataclass(frozen=True)
class Panel:
    """A section of the report with figures of the family's own.

    Parameters
    ----------
    key, title : str
        Identifier in the page and heading.
    needs : tuple of str
        Files of ``results/`` without which there is no such section, such as ``predictions.h5``.
    draw : callable
        Gets the arrays of the files of `needs` and `wants` by the name of the file, and returns HTML; the empty string
        leaves the section out. It must escape text that comes from data. :mod:`hpctrain.drawing` has axes and tables.
    wants : tuple of str
        Files that `draw` gets if they exist.
    """

    key: str
    title: str
    needs: tuple[str, ...]
    draw: Callable[[Mapping[str, Arrays]], str]
    wants: tuple[str, ...] = ()
