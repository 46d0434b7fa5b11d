"""Read samples outside the steps of the training loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.samples.loader import read_ahead
from hpctrain.samples.protocols import Batch

if TYPE_CHECKING:
    from hpctrain.train.run import Run


def read_prepared(run: Run, rows: np.ndarray) -> Iterator[Batch]:
    """Yield prepared batches of these rows, in their order, on the device of the run."""
    size, data = run.schedule.micro_batch, run.profile.data
    requests = (rows[start : start + size] for start in range(0, len(rows), size))
    for batch in read_ahead(run.data.samples, requests, run.profile.reader_threads, data.prefetch_batches):
        run.watchdog.progress()
        yield run.prepare(batch.to(run.device))
