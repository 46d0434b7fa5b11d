"""TensorBoard event files: scalars, events as text, histograms of weights and gradients, figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpctrain.metrics.events import read_event
from hpctrain.metrics.events.event import NO_WORDS
from hpctrain.metrics.exporters.exporter import Exporter, pixels_of
from hpctrain.metrics.exporters.numbers import numbers_of
from hpctrain.rundir import RunDir
from hpctrain.words import Words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hpctrain.metrics.histogram import Histogram

FLUSH_S = 30


class TensorBoardExporter(Exporter):
    """Write the records of a run as TensorBoard event files. All numbers are already on the host.

    Parameters
    ----------
    run : RunDir
        Event files go to its ``tensorboard`` folder.
    purge_step : int, optional
        First step of this attempt; TensorBoard hides the records of earlier attempts from this step on.
    words : Words
        What users call the samples of the run.
    """

    takes_figures = True
    takes_histograms = True

    def __init__(self, run: RunDir, purge_step: int | None = None, words: Words = NO_WORDS) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard import SummaryWriter

        self._words = words
        self._summary = Summary
        self._writer = SummaryWriter(
            log_dir=str(run.tensorboard), purge_step=purge_step, flush_secs=FLUSH_S, max_queue=100
        )

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Write the numbers of a ``train``, ``eval`` or ``monitor`` record, and events as text."""
        if record["kind"] == "event":
            self._event(record)
            return
        values = [self._summary.Value(tag=tag, simple_value=value) for tag, value in numbers_of(record).items()]
        # One event for all numbers: one add_scalar each would double the cost of a record.
        self._writer.file_writer.add_summary(
            self._summary(value=values), global_step=record["step"], walltime=record["time"]
        )

    def figure(self, step: int, name: str, figure: Figure) -> None:
        """Write a figure as an image."""
        self._writer.add_image(name, pixels_of(figure), step, dataformats="HWC")

    def histogram(self, step: int, named: Mapping[str, Histogram]) -> None:
        """Write the histograms of weights and gradients."""
        for tag, found in named.items():
            self._writer.add_histogram_raw(
                tag, min=found.low, max=found.high, num=found.num, sum=found.total, sum_squares=found.total_squares,
                bucket_limits=found.upper_edges, bucket_counts=found.counts, global_step=step,
            )  # fmt: skip

    def close(self) -> None:
        """Flush and close the files."""
        self._writer.close()

    def _event(self, record: Mapping[str, Any]) -> None:
        text = read_event(record).describe(self._words)
        self._writer.add_text("events", text, record["step"], walltime=record["time"])
