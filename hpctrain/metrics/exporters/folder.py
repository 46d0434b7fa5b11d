"""Write figures as PNG files into the run directory, from where a tracker takes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.files import NewFile
from hpctrain.metrics.exporters.exporter import Exporter, pixels_of
from hpctrain.rundir import RunDir

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIGURE = re.compile(r"step-(\d{8,})\.png")


def figure_path(name: str, step: int) -> str:
    """Return the path of a figure relative to the run directory."""
    return f"figures/{name}/step-{step:08d}.png"


def figures_of(run: RunDir) -> Iterator[tuple[str, int, Path]]:
    """Yield name, step and path of the figures of a run, by name and by step."""
    for path in sorted(run.figures.rglob("step-*.png")):
        if match := _FIGURE.fullmatch(path.name):
            yield path.parent.relative_to(run.figures).as_posix(), int(match[1]), path


class FigureFolder(Exporter):
    """Write each figure as ``figures/<name>/step-<step>.png``, whole or not at all.

    Parameters
    ----------
    run : RunDir
    """

    takes_figures = True

    def __init__(self, run: RunDir) -> None:
        self._run = run

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Ignore a record: ``metrics.jsonl`` has it."""

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Write a figure."""
        from matplotlib.image import imsave

        path = self._run.path / figure_path(name, step)
        path.parent.mkdir(parents=True, exist_ok=True)
        with NewFile(path, durable=False) as new:
            imsave(new.stream, pixels_of(figure), format="png")
