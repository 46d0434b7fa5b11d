"""The events of a run, one class each: its name, its fields and its words. Writers and readers share them.

The order of the fields is the order of the entries in ``metrics.jsonl``. To add an event, add a class to a module of
this folder and name it in `EVENTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpctrain.metrics.events.alerts import AlertCleared, AlertRaised
from hpctrain.metrics.events.attempt import (
    ExporterFailed,
    Failed,
    Finished,
    FirstStep,
    GpuMissing,
    ProfileChanged,
    RecordsLost,
    Resumed,
    Started,
    Stopped,
    StopRequested,
)
from hpctrain.metrics.events.data import BadValues, BatchSizeFound, Cached, DataFound, Staged, StageFellBack
from hpctrain.metrics.events.event import Event, OtherEvent
from hpctrain.metrics.events.machine import (
    MemoryShort,
    NotTraced,
    OverCurrent,
    PaceChanged,
    PowerMode,
    SensorsFound,
    Traced,
)
from hpctrain.metrics.events.training import (
    Best,
    CheckpointFailed,
    CheckpointMirrored,
    CheckpointRejected,
    CheckpointSaved,
    Diverged,
    EarlyStopped,
    EvaluationEmpty,
    MadeRoom,
    MirrorFailed,
)

__all__ = (
    "EVENTS",
    "AlertCleared",
    "AlertRaised",
    "BadValues",
    "BatchSizeFound",
    "Best",
    "Cached",
    "CheckpointFailed",
    "CheckpointMirrored",
    "CheckpointRejected",
    "CheckpointSaved",
    "DataFound",
    "Diverged",
    "EarlyStopped",
    "EvaluationEmpty",
    "Event",
    "ExporterFailed",
    "Failed",
    "Finished",
    "FirstStep",
    "GpuMissing",
    "MadeRoom",
    "MemoryShort",
    "MirrorFailed",
    "NotTraced",
    "OtherEvent",
    "OverCurrent",
    "PaceChanged",
    "PowerMode",
    "ProfileChanged",
    "RecordsLost",
    "Resumed",
    "SensorsFound",
    "StageFellBack",
    "Staged",
    "Started",
    "StopRequested",
    "Stopped",
    "Traced",
    "read_event",
)

EVENTS: Mapping[str, type[Event]] = {
    event.name: event
    for event in (
        Started, DataFound, GpuMissing, Resumed, ProfileChanged, Staged, StageFellBack, Cached, BatchSizeFound,
        FirstStep, BadValues, EvaluationEmpty, Best, EarlyStopped, CheckpointSaved, CheckpointFailed, MadeRoom,
        CheckpointRejected, CheckpointMirrored, MirrorFailed, StopRequested, Stopped, Diverged, Failed, Finished,
        SensorsFound, PaceChanged, OverCurrent, MemoryShort, PowerMode, Traced, NotTraced, AlertRaised, AlertCleared,
        ExporterFailed, RecordsLost,
    )
}  # fmt: skip
"""The class of each event, by its name in ``metrics.jsonl``."""


def read_event(record: Mapping[str, Any]) -> Event:
    """Return the event of a record of kind ``event``; a damaged record never raises.

    Parameters
    ----------
    record : mapping
        As :func:`~hpctrain.records.metric_record` returns it, or as it was passed to an exporter.
    """
    name = record.get("event")
    return EVENTS.get(name if isinstance(name, str) else "", OtherEvent).from_record(record)
