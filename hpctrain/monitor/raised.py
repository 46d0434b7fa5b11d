"""The alerts of a run that are raised now: files that the judge of the alerts writes, and that status and others read.

Two processes judge, each with its own rules and its own file: a thread of rank 0 (``monitor/alerts.json``), and the
process that started the ranks (``monitor/alerts-of-job.json``), which outlives them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpctrain.files import clear_leftovers
from hpctrain.records import Record, is_count, is_moment, is_number, is_text, well_typed
from hpctrain.rundir import RunDir, read_json, write_atomic

OF_TRAINER, OF_JOB = "alerts.json", "alerts-of-job.json"
_RAISED = {
    "alert": is_text,
    "severity": is_text,
    "text": is_text,
    "since_s": is_moment,
    "step": is_count,
    "value": is_number,
}


@dataclass(frozen=True)
class Raised:
    """One alert that is raised.

    Parameters
    ----------
    alert : str
        Name of the rule.
    severity : str
        ``warning`` or ``critical``.
    text : str
        What was seen when it was raised, with numbers.
    since_s : float
        When it was raised [s since 1970].
    step : int
        Last step done then.
    value : float or None
        The number that the rule judged.
    """

    alert: str
    severity: str
    text: str
    since_s: float
    step: int = 0
    value: float | None = None


def read_raised(run: RunDir, *files: str) -> list[Raised]:
    """Return the alerts that are raised, the oldest first; a damaged file counts as empty.

    Parameters
    ----------
    run : RunDir
    *files : str
        `OF_TRAINER`, `OF_JOB`; both if none is given.
    """
    found = [one for name in files or (OF_TRAINER, OF_JOB) for one in _read(run.monitor / name)["raised"]]
    return sorted(found, key=lambda one: one.since_s)


def read_times(run: RunDir, file: str) -> dict[str, list[float]]:
    """Return when each alert of a file was raised before [s since 1970], by name."""
    times: dict[str, list[float]] = _read(run.monitor / file)["times"]
    return times


def write_raised(run: RunDir, file: str, raised: Iterable[Raised], times: Mapping[str, list[float]]) -> None:
    """Replace the file of one judge; a full disk must not end a healthy run."""
    path = run.monitor / file
    record = {"raised": [asdict(one) for one in raised], "times": dict(times)}
    with contextlib.suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        clear_leftovers(path)
        write_atomic(path, json.dumps(record) + "\n", durable=False, replace_folders=True)


def forget(run: RunDir, file: str) -> None:
    """Empty the file of a judge that may not be there any more to take back what it has raised."""
    if read_raised(run, file):
        write_raised(run, file, (), read_times(run, file))


def _read(path: Path) -> dict[str, Any]:
    record = read_json(path)
    record = record if isinstance(record, dict) else {}
    listed, times = record.get("raised"), record.get("times")
    return {
        "raised": [
            one for entry in (listed if isinstance(listed, list) else ()) if (one := _raised(entry)) is not None
        ],
        "times": {
            name: [moment for moment in moments if is_moment(moment)]
            for name, moments in (times.items() if isinstance(times, dict) else ())
            if isinstance(moments, list)
        },
    }


def _raised(entry: object) -> Raised | None:
    known: Record = well_typed(entry, _RAISED) if isinstance(entry, dict) else {}
    return Raised(**known) if known.keys() >= {"alert", "severity", "text", "since_s"} else None
