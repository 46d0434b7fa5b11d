"""``data.cache: ram``: keep one decoded copy of the spectra per node, in memory shared by its ranks."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.distributed.world import World, node_name
from hpctrain.errors import SiteError
from hpctrain.kinds.spectra.hdf5 import SpectraSet
from hpctrain.kinds.spectra.ram import copy_to_memory, needed_bytes, open_in_memory
from hpctrain.monitor.available import available_memory_bytes
from hpctrain.samples.activity import Activity
from hpctrain.train.build import Spectra
from hpctrain.train.staging import Record
from hpctrain.train.together import Crew

_SHARE = 0.9
"""Share of the free memory that the copy may use; ranks, checkpoints and batches need the rest."""


def cache_in_memory(spectra: Spectra, crew: Crew, record: Record) -> Spectra:
    """Return the same spectra, decoded in memory. Each can be read on its own, so the shuffle is exact.

    Parameters
    ----------
    spectra : Spectra
    crew : Crew
    record : callable
        Is called with the event ``cached``.

    Returns
    -------
    Spectra

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
    rows = np.union1d(spectra.train_rows, spectra.validation_rows)
    mine = crew.work("decoding", lambda activity: _fill(spectra.source, rows, crew.world, activity))
    path = Path(f"/proc/{mine['pid']}/fd/{mine['descriptor']}")
    source = crew.agree(lambda: open_in_memory(path, spectra.source))
    spectra.source.close()
    record("cached", bytes=mine["bytes"], seconds=round(time.monotonic() - started_s, 3))
    return replace(spectra, source=source, blocks=None)


def _fill(source: SpectraSet, rows: np.ndarray, world: World, activity: Activity) -> dict[str, Any]:
    needed, available = needed_bytes(source, rows), available_memory_bytes()
    if available is not None and needed > _SHARE * available:
        raise SiteError(
            f"data.cache: ram: node {node_name()}: {len(rows)} spectra need {needed / 2**30:.1f} GiB, but only "
            f"{_SHARE * available / 2**30:.1f} GiB may be used ({available / 2**30:.1f} GiB are available); ask for "
            "more with launch.memory_gib_per_node, or use data.cache: none"
        )
    # The other ranks of the node wait, so this rank uses their cores too, unless ranks are bound to cores.
    threads = max(1, len(os.sched_getaffinity(0)))
    descriptor = copy_to_memory(source, rows, threads, activity)
    return {"node": node_name(), "pid": os.getpid(), "descriptor": descriptor, "bytes": needed}
