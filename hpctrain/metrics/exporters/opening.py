"""Open the exporters that a profile asks for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from hpctrain.distributed.world import node_name
from hpctrain.metrics.events import ExporterFailed
from hpctrain.metrics.exporters.background import InBackground
from hpctrain.metrics.exporters.exporter import Exporter
from hpctrain.metrics.exporters.folder import FigureFolder
from hpctrain.metrics.exporters.process import TrackerProcess
from hpctrain.metrics.exporters.progress import ProgressLine
from hpctrain.metrics.exporters.prometheus import PrometheusExporter
from hpctrain.metrics.exporters.tensorboard import TensorBoardExporter
from hpctrain.profile.families import words_of
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir

if TYPE_CHECKING:
    from hpctrain.metrics.record import MetricsWriter


def open_exporters(
    run: RunDir, profile: Profile, metrics: MetricsWriter, step: int, total_steps: int
) -> list[Exporter]:
    """Open the exporters of a run and subscribe them to its records.

    An exporter that cannot be opened costs an event ``exporter_failed``; the run continues without it.

    Parameters
    ----------
    run : RunDir
    profile : Profile
        ``track`` and ``monitor`` choose the exporters.
    metrics : MetricsWriter
        Writer of rank 0.
    step : int
        Last step done before this attempt.
    total_steps : int
        Last step of the run.

    Returns
    -------
    list of Exporter
        The exporters that are subscribed.
    """
    opened = []
    for name, make in _wanted(run, profile, step, total_steps):
        try:
            exporter = make()
        except Exception as error:  # a missing package, a port that is taken: no tracker may end the run
            metrics.event(ExporterFailed(exporter=name, error=str(error)), step)
            continue
        metrics.subscribe(exporter)
        opened.append(exporter)
    return opened


def _wanted(run: RunDir, profile: Profile, step: int, total_steps: int) -> Iterator[tuple[str, Callable[[], Exporter]]]:
    monitor, words = profile.monitor, words_of(profile)
    yield "ProgressLine", lambda: ProgressLine(total_steps, words)
    if profile.track.tensorboard:
        yield "TensorBoard", lambda: TensorBoardExporter(run, purge_step=step + 1, words=words)
    if monitor.prometheus_textfile is not None or monitor.prometheus_port is not None:
        yield (
            "Prometheus",
            lambda: PrometheusExporter(
                run,
                node_name(),
                monitor.prometheus_textfile,
                monitor.prometheus_port,
                words,
                profile.checkpoint.every_steps,
            ),
        )
    trackers = [name for name in ("mlflow", "wandb") if getattr(profile.track, name) is not None]
    if trackers and profile.track.figure_every_steps is not None:
        yield "FigureFolder", lambda: InBackground(FigureFolder(run))
    for name in trackers:
        yield name, functools.partial(TrackerProcess, run, name)
