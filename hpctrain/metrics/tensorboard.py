"""TensorBoard event files: scalars, histograms of weights and gradients, figures of reconstructions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from hpctrain.rundir import RunDir

if TYPE_CHECKING:
    import numpy as np
    import torch

FLUSH_S = 30
NUM_BINS = 64
NO_SCALARS = frozenset({"kind", "step", "time", "attempt", "event", "nonfinite", "seconds", "samples_seen"})


class TensorBoardExporter:
    """Write the records of a run as TensorBoard event files.

    The class is an exporter of :class:`~hpctrain.metrics.record.MetricsWriter`. Scalars are already on the host. Only
    :meth:`histograms` waits for a GPU: it reads one small table per parameter.

    Parameters
    ----------
    run : RunDir
        Event files go to its ``tensorboard`` folder.
    purge_step : int, optional
        First step of this attempt; TensorBoard hides the records of earlier attempts from this step on.
    num_figures : int
        Number of spectra that :meth:`reconstructions` draws.

    Notes
    -----
    The next record raises a failure in :meth:`histograms` or :meth:`reconstructions`. The metrics writer then logs it,
    records ``exporter_failed``, and drops this exporter.
    """

    def __init__(self, run: RunDir, purge_step: int | None = None, num_figures: int = 4) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from torch.utils.tensorboard import SummaryWriter

        self._summary = Summary
        self._num_figures = num_figures
        self._failure: Exception | None = None
        self._writer = SummaryWriter(
            log_dir=str(run.tensorboard), purge_step=purge_step, flush_secs=FLUSH_S, max_queue=100
        )

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Write the numbers of a ``train`` or ``eval`` record, and events as text."""
        if self._failure is not None:
            raise self._failure
        if record["kind"] == "event":
            self._event(record)
            return
        values = [
            self._summary.Value(tag=f"{record['kind']}/{name}", simple_value=value)
            for name, value in record.items()
            if name not in NO_SCALARS and isinstance(value, Real) and not isinstance(value, bool)
        ]
        # One event for all numbers: one add_scalar each would double the cost of a record.
        self._writer.file_writer.add_summary(
            self._summary(value=values), global_step=record["step"], walltime=record["time"]
        )

    def histograms(self, step: int, named_parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> None:
        """Write histograms of weights and, if there are any, gradients.

        The device of the parameters computes the histograms and copies only 64 numbers per parameter to the host.

        Parameters
        ----------
        step : int
            Last step done.
        named_parameters : iterable of (str, Parameter)
            Parameters, for example ``model.named_parameters()``.
        """
        if self._failure is not None:
            return
        try:
            for name, parameter in named_parameters:
                label = name.removeprefix("module.").removeprefix("_orig_mod.")
                self._histogram(f"weights/{label}", parameter.detach(), step)
                if parameter.grad is not None:
                    self._histogram(f"gradients/{label}", parameter.grad.detach(), step)
        except Exception as error:
            self._failure = error

    def reconstructions(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Draw the first few spectra of an evaluation with their reconstructions.

        Parameters
        ----------
        step : int
            Step after which the run was evaluated.
        arrays : mapping
            Arrays of ``results/reconstructions.npz``: ``wavelength_aa`` (L,) or (n, L), ``flux``, ``ivar``,
            ``reconstruction``, ``covered`` (n, L), ``target_id``, ``redshift`` (n,).
        """
        if self._failure is not None:
            return
        try:
            for row in range(min(self._num_figures, len(arrays["flux"]))):
                self._figure(f"reconstruction/{row}", arrays, row, step)
        except Exception as error:
            self._failure = error

    def close(self) -> None:
        """Flush and close the files."""
        self._writer.close()

    def _event(self, record: Mapping[str, Any]) -> None:
        from hpctrain.metrics.progress import describe_event

        self._writer.add_text("events", describe_event(dict(record)), record["step"], walltime=record["time"])

    def _histogram(self, tag: str, values: torch.Tensor, step: int) -> None:
        import torch

        values = values.float().flatten()
        values = values[torch.isfinite(values)]
        if not values.numel():
            return
        low, high = torch.aminmax(values)
        # one copy to the host instead of four; float64, because a sum of squares overflows float32
        table = torch.stack([low, high, values.sum(dtype=torch.float64), values.square().sum(dtype=torch.float64)])
        low, high, total, total_squares = table.tolist()
        if low == high:  # constant values: TensorBoard shows nothing for bins of width zero
            low, high = low - 1e-12 - abs(low) * 1e-6, high + 1e-12 + abs(high) * 1e-6
        counts = torch.histc(values, bins=NUM_BINS, min=low, max=high).cpu()
        edges = torch.linspace(low, high, NUM_BINS + 1, dtype=torch.float64)[1:]
        self._writer.add_histogram_raw(
            tag, min=low, max=high, num=values.numel(), sum=total, sum_squares=total_squares,
            bucket_limits=edges.tolist(), bucket_counts=counts.tolist(), global_step=step,
        )  # fmt: skip

    def _figure(self, tag: str, arrays: Mapping[str, np.ndarray], row: int, step: int) -> None:
        import numpy as np
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        from hpctrain.metrics.figures import draw_reconstruction, row_of

        canvas = FigureCanvasAgg(draw_reconstruction(row_of(arrays, row)))
        canvas.draw()
        self._writer.add_image(tag, np.asarray(canvas.buffer_rgba())[..., :3], step, dataformats="HWC")
