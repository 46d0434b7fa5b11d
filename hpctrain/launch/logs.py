"""The log files of a run: one per attempt and rank, ``job-<job id>.<restart>-rank-<rank>.log``."""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.status import describe
from hpctrain.rundir import RunDir

_POLL_S = 0.5
_STATUS_EVERY_POLLS = 10


def log_files(run: RunDir, rank: int | None) -> list[Path]:
    """Return the logs of one rank (None: of the batch script), oldest attempt first."""
    pattern = "job-*-batch.log" if rank is None else f"job-*-rank-{rank:04d}.log"
    return sorted(run.logs.glob(pattern), key=_begun)


def show(run: RunDir, files: list[Path], attempt: int | None, num_lines: int | None) -> None:
    """Print one of `files`, the newest or that of an attempt.

    Raises
    ------
    ProfileError
        There is no such log.
    """
    if not files or (attempt is not None and not 1 <= attempt <= len(files)):
        found = f"there are {len(files)} attempts" if files else f"no rank has written yet ({run.logs})"
        raise ProfileError("command line", [Problem("logs", f"no such log: {found}; state: {describe(run).state}")])
    path = files[-1] if attempt is None else files[attempt - 1]
    with open(path, encoding="utf-8", errors="replace") as stream:
        for line in stream if num_lines is None else deque(stream, maxlen=num_lines):
            sys.stdout.write(line)


def follow(run: RunDir, rank: int | None, num_lines: int | None) -> None:
    """Print the newest log as it grows, go over to the next attempt's, and stop when the run has ended."""
    path: Path | None = None
    position = 0
    polls = 0
    while True:
        files = log_files(run, rank)
        if files and files[-1] != path:
            if path is not None:
                position = _print_from(path, position)
                print(f"--- {files[-1].name} ---", flush=True)
            path, position = files[-1], _start(files[-1], num_lines) if path is None else 0
        if path is not None:
            position = _print_from(path, position)
        polls += 1
        if polls % _STATUS_EVERY_POLLS == 0:
            status = describe(run)
            if not status.is_active:
                if path is not None:
                    _print_from(path, position)
                print(f"--- {status.state} ({status.detail or status.source}) ---", flush=True)
                return
        time.sleep(_POLL_S)


def _begun(path: Path) -> tuple[float, int]:
    """Order of attempts: jobs by when their first attempt last wrote, attempts of one job by their restart count."""
    job, _, rest = path.name.partition(".")  # job-123_4.2-rank-0000.log
    restart = rest.partition("-")[0]
    first = path.with_name(f"{job}.0{rest.removeprefix(restart)}")
    written = (first if first.exists() else path).stat().st_mtime
    return written, int(restart) if restart.isdigit() else 0


def _start(path: Path, num_lines: int | None) -> int:
    """Where the last `num_lines` lines begin [byte]."""
    if num_lines is None:
        return 0
    with open(path, "rb") as stream:
        lines = deque(stream, maxlen=num_lines)
        return stream.tell() - sum(map(len, lines))


def _print_from(path: Path, position: int) -> int:
    with open(path, "rb") as stream:
        stream.seek(position)
        text = stream.read()
    sys.stdout.write(text.decode("utf-8", "replace"))
    sys.stdout.flush()
    return position + len(text)
