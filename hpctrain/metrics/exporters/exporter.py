"""The contract between a run and everything that shows it: records, figures, histograms, and a close."""

from __future__ import annotations

import abc
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from hpctrain.metrics.histogram import Histogram

_PIXELS: weakref.WeakKeyDictionary[Figure, np.ndarray] = weakref.WeakKeyDictionary()


class Exporter(abc.ABC):
    """Follow a run; :class:`~hpctrain.metrics.record.MetricsWriter` calls it on rank 0 after it has written a record.

    Calls come from the threads of the run, one at a time, so each must return at once: an exporter that waits for a
    network or a slow disk waits in a thread or a process of its own. The writer drops an exporter at its first
    exception, and the run goes on.

    Attributes
    ----------
    takes_figures, takes_histograms : bool
        Whether :meth:`figure` and :meth:`histogram` do anything. Figures and histograms are made only if a subscribed
        exporter takes them.
    """

    takes_figures: ClassVar[bool] = False
    takes_histograms: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, record: Mapping[str, Any]) -> None:
        """Take one record of ``metrics.jsonl``."""

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Take a figure.

        Parameters
        ----------
        step : int
            Last step done.
        name : str
            Name that stays the same from step to step, such as ``reconstruction/0``.
        figure : matplotlib.figure.Figure
            All exporters get the same figure and must not change it; :func:`pixels_of` draws it once.
        """
        return

    def histogram(self, step: int, named: Mapping[str, Histogram]) -> None:
        """Take the histograms of weights and gradients.

        Parameters
        ----------
        step : int
            Last step done.
        named : mapping of str to Histogram
            By name, such as ``weights/decoder.0.weight``.
        """
        return

    def close(self) -> None:
        """Write what is left and free all resources. The time that this takes must be bounded."""
        return


def pixels_of(figure: Figure) -> np.ndarray:
    """Return the pixels of a figure, which is drawn once, however many exporters ask.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        Red, green, blue; do not change it.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if figure not in _PIXELS:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        _PIXELS[figure] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return _PIXELS[figure]
