"""The log files of a run: one per attempt and rank, ``job-<job id>.<restart>-rank-<rank>.log``."""

from __future__ import annotations

import codecs
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hpctrain.errors import Problem, ProfileError
from hpctrain.files import LONGEST_LINE_BYTES, open_regular
from hpctrain.launch.runs import newest_job
from hpctrain.launch.status import describe
from hpctrain.launch.targets import target_of
from hpctrain.rundir import RunDir

_POLL_S = 0.5
_MOST_BYTES = 1 << 20
"""Largest number of bytes of a growing log to print at a time."""
_STATUS_EVERY_POLLS = 10
_BLOCK_BYTES = 1 << 16
"""Number of bytes to read at a time while lines are counted from the end."""


def log_files(run: RunDir, rank: int | None) -> list[Path]:
    """Return the logs of one rank (None: of the job's script or supervisor), oldest attempt first."""
    if rank is None and (target := target_of(run)) is not None:
        return target.logs(newest_job(run))
    pattern = re.compile(r"job-.*-batch\.log" if rank is None else rf"job-.*-rank-{rank:04d}\.log")
    return _by_start([path for path in all_files(run) if pattern.fullmatch(path.name)])


def all_files(run: RunDir) -> list[Path]:
    """Return all files in ``logs/``, by name; an empty list if the folder is unreadable."""
    try:
        return sorted(run.logs.iterdir())
    except OSError:
        return []


def show(run: RunDir, rank: int | None, attempt: int | None, num_lines: int | None) -> None:
    """Print the log of a rank; the arguments and errors are those of :func:`text_of`."""
    for piece in text_of(run, rank, attempt, num_lines):
        sys.stdout.write(piece)


def text_of(run: RunDir, rank: int | None, attempt: int | None, num_lines: int | None) -> Iterator[str]:
    """Return the log of a rank in pieces.

    Parameters
    ----------
    run : RunDir
    rank : int or None
        None means the log of the job's script or supervisor.
    attempt : int or None
        Number of the attempt, from 1; None means the newest.
    num_lines : int or None
        Return only so many lines, the last ones.

    Raises
    ------
    ProfileError
        There is no such log, or it cannot be read.
    """
    files = log_files(run, rank)
    if not files:
        raise ProfileError("command line", [Problem("logs", why_none(run, rank))])
    if attempt is not None and not 1 <= attempt <= len(files):
        there = "1 attempt has" if len(files) == 1 else f"attempts 1 to {len(files)} have"
        raise ProfileError("command line", [Problem("--attempt", f"there is no attempt {attempt}: {there} a log")])
    path = files[-1] if attempt is None else files[attempt - 1]
    return _pieces(path, 0 if num_lines is None else _start(path, num_lines))


def why_none(run: RunDir, rank: int | None) -> str:
    """Return why a rank (None: the job's script or supervisor) has no log: there is none, or it has not started yet."""
    status = describe(run)
    state = status.state + (f" ({status.detail})" if status.detail else "")
    ranks = sorted({path.stem.rpartition("-")[2] for path in all_files(run) if "-rank-" in path.name})
    if rank is not None and ranks:
        names = ", ".join(str(int(name)) for name in ranks if name.isdigit())
        return f"there is no log of rank {rank}; there are logs of rank {names}"
    whose = "the batch script or supervisor" if rank is None else f"rank {rank}"
    return f"{whose} has not written a log yet; the run is {state}"


def follow(run: RunDir, rank: int | None, num_lines: int | None) -> None:
    """Print the newest log as it grows, continue with the log of the next attempt, and stop when the run has ended."""
    path: Path | None = None
    position = 0
    polls = 0
    if not log_files(run, rank):
        print(f"--- {why_none(run, rank)}; waiting for it (Ctrl-C ends) ---", file=sys.stderr, flush=True)
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


def _by_start(paths: list[Path]) -> list[Path]:
    """Return logs sorted by the last write of the first attempt of their job, and within a job by restart count.

    The disk is asked once per job, not per attempt: a reader that follows a log does this twice a second.
    """
    names = {path.name for path in paths}
    written: dict[str, float] = {}

    def begun(path: Path) -> tuple[float, int]:
        job, _, rest = path.name.partition(".")  # job-123_4.2-rank-0000.log
        restart = rest.partition("-")[0]
        first = f"{job}.0{rest.removeprefix(restart)}"
        name = first if first in names else path.name
        if name not in written:
            written[name] = os.lstat(path.with_name(name)).st_mtime
        return written[name], int(restart) if restart.isdecimal() else 0

    return sorted(paths, key=begun)


def _start(path: Path, num_lines: int | None) -> int:
    """Return where the last `num_lines` lines begin [byte]."""
    if num_lines is None:
        return 0
    with _opened(path) as stream:
        end = stream.seek(0, os.SEEK_END)
        if num_lines <= 0:
            return end
        missing = num_lines
        position = end
        while position > 0:
            begin = max(0, position - _BLOCK_BYTES)
            stream.seek(begin)
            block = stream.read(position - begin)
            breaks = block.count(b"\n", 0, len(block) - (position == end))  # the last line may end with a break
            if breaks >= missing:
                return begin + _after_break(block[: len(block) - (position == end)], missing)
            missing -= breaks
            position = begin
        return 0


def _after_break(block: bytes, number: int) -> int:
    """Return where the line begins that follows the line break of this number, counted from the end from 1."""
    place = len(block)
    for _ in range(number):
        place = block.rindex(b"\n", 0, place)
    return place + 1


def _opened(path: Path) -> BinaryIO:
    try:
        return os.fdopen(open_regular(path), "rb")
    except OSError as error:
        raise ProfileError("command line", [Problem(str(path), f"cannot be read: {error.strerror}")]) from None


def _pieces(path: Path, position: int) -> Iterator[str]:
    """Yield the text of a file from a position on, in pieces that never split a character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with _opened(path) as stream:
        stream.seek(position)
        while piece := stream.read(LONGEST_LINE_BYTES):
            yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)


def _print_from(path: Path, position: int) -> int:
    with _opened(path) as stream:
        stream.seek(position)
        while text := stream.read(_MOST_BYTES):
            sys.stdout.write(text.decode("utf-8", "replace"))
            position += len(text)
    sys.stdout.flush()
    return position
