"""Read the records of a run into one summary for the rules; what is missing or damaged is left out."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpctrain.advice.summary import EndedAttempt, RunSummary
from hpctrain.credentials.hide import hide_known
from hpctrain.errors import HpctrainError
from hpctrain.files import open_regular, read_lines, read_text
from hpctrain.metrics.objective import Objective
from hpctrain.metrics.read import History, read_history
from hpctrain.monitor.ledger import read_ledgers
from hpctrain.profile.lookup import family_of_file
from hpctrain.profile.yaml_text import parse_yaml
from hpctrain.records import is_number
from hpctrain.rundir import RunDir
from hpctrain.traces.words import read_summaries

_MOST_LOGS = 16
_LOG_BYTES = 1 << 15
"""Number of bytes to read from the end of each log."""
_STRIKES_LAST_S = 86400.0
_WHOLE_NUMBER = re.compile(r"\d{1,11}")


def summarise(
    run: RunDir, history: History | None = None, now: float | None = None, profile: Mapping[str, Any] | None = None
) -> RunSummary:
    """Return the summary of a run in any state.

    Parameters
    ----------
    run : RunDir
    history : History, optional
        The records of the run, if they have been read already.
    now : float, optional
        Current time [s since 1970].
    profile : mapping, optional
        The plain values of its profile, if they have been read already.
    """
    family = family_of_file(run.profile)
    submitted = run.read_job().get("submitted_at")
    return RunSummary(
        path=str(run.path),
        profile=_profile(run.profile) if profile is None else profile,
        history=read_history(run) if history is None else history,
        objective=family.objective if family else Objective(),
        ranks=read_ledgers(run),
        leases=run.read_attempts(),
        ended=_ended(run.attempts / "ended.tsv"),
        strikes=strikes_of(run.bad_nodes, time.time() if now is None else now),
        log=hide_known("\n".join(_tail(path) for path in _newest_logs(run.logs))),
        submitted_s=float(submitted) if is_number(submitted) else None,
        trace=next(iter(read_summaries(run)), {}),
    )


def _profile(path: Path) -> Mapping[str, Any]:
    try:
        found = parse_yaml(read_text(path), path.name).data
    except (OSError, HpctrainError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _rows(path: Path) -> list[list[str]]:
    try:
        return [line.decode("utf-8", "replace").rstrip("\n").split("\t") for line in read_lines(path)]
    except OSError:
        return []


def _ended(path: Path) -> list[EndedAttempt]:
    """Return the lines of the table that the batch script or supervisor writes at the end of each attempt."""
    whole = [row for row in _rows(path) if len(row) == 7 and all(map(_WHOLE_NUMBER.fullmatch, (row[0], row[3])))]
    return [EndedAttempt(float(row[0]), int(row[3]), row[6]) for row in whole]


def strikes_of(path: Path, now: float) -> dict[str, int]:
    """Count the failures of each node within a day; one that was found unfit before the start counts twice."""
    strikes: dict[str, int] = {}
    for row in _rows(path):
        if len(row) == 4 and _WHOLE_NUMBER.fullmatch(row[0]) and float(row[0]) > now - _STRIKES_LAST_S:
            strikes[row[1]] = strikes.get(row[1], 0) + (2 if row[3] == "preflight" else 1)
    return strikes


def _newest_logs(folder: Path) -> list[Path]:
    """Return the logs that were written last, oldest first."""
    try:
        found = [(entry.stat(follow_symlinks=False).st_mtime, entry.path) for entry in os.scandir(folder)]
    except OSError:
        return []
    return [Path(path) for _, path in sorted(found)[-_MOST_LOGS:] if path.endswith((".log", ".out", ".err"))]


def _tail(path: Path) -> str:
    """Return the last lines of a log; an empty text if it is unreadable."""
    try:
        with os.fdopen(open_regular(path), "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _LOG_BYTES))
            return stream.read(_LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
