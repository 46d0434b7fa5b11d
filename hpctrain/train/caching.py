"""``data.cache: ram``: keep one decoded copy of the samples per node, in memory shared by its ranks."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.distributed.world import node_name
from hpctrain.errors import SiteError
from hpctrain.kinds.kind import Kind
from hpctrain.metrics.events import Cached
from hpctrain.monitor.available import available_memory_bytes
from hpctrain.samples.activity import Activity
from hpctrain.samples.protocols import Samples
from hpctrain.train.run import Data
from hpctrain.train.staging import Record
from hpctrain.train.together import Crew

_SHARE = 0.9
"""Share of the free memory that the copy may use; ranks, checkpoints and batches need the rest."""


def cache_in_memory(data: Data, kind: Kind, crew: Crew, record: Record) -> Data:
    """Return the same samples, decoded in memory. Each can be read on its own, so the shuffle is exact.

    Parameters
    ----------
    data : Data
    kind : Kind
    crew : Crew
    record : callable
        Is called with the event ``cached``.

    Returns
    -------
    Data

    Raises
    ------
    SiteError
        A node has too little memory; nothing was allocated.
    DataError
        A row cannot be read.
    StoppedBeforeTrainingError
        The job was asked to stop.
    """
    started_s = time.monotonic()
    rows = np.unique(np.concatenate([data.train_rows, data.validation_rows, data.test_rows]))
    mine = crew.work("decoding", lambda activity: _fill(data.samples, kind, rows, activity))
    path = Path(f"/proc/{mine['pid']}/fd/{mine['descriptor']}")
    samples = crew.agree(lambda: kind.memory_copies().open_in_memory(path, data.samples))
    samples.labels = data.samples.labels
    data.samples.close()
    record(Cached(bytes=mine["bytes"], seconds=round(time.monotonic() - started_s, 3)))
    return replace(data, samples=samples, blocks=None)


def _fill(samples: Samples, kind: Kind, rows: np.ndarray, activity: Activity) -> dict[str, Any]:
    copies = kind.memory_copies()
    needed, available = copies.needed_bytes(samples, rows), available_memory_bytes()
    if available is not None and needed > _SHARE * available:
        raise SiteError(
            f"data.cache: ram: node {node_name()}: {len(rows)} {kind.words.many} need {needed / 2**30:.1f} GiB, but "
            f"only {_SHARE * available / 2**30:.1f} GiB may be used ({available / 2**30:.1f} GiB are available); ask "
            "for more with launch.memory_gib_per_node, or use data.cache: none"
        )
    # The other ranks of the node wait, so this rank uses their cores too, unless ranks are bound to cores.
    threads = max(1, len(os.sched_getaffinity(0)))
    descriptor = copies.copy_to_memory(samples, rows, threads, activity)
    return {"node": node_name(), "pid": os.getpid(), "descriptor": descriptor, "bytes": needed}
