"""Read units, many of them in several processes at once, and hand them over in bounded numbers."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hpctrain.index.read_others import rows_of
from hpctrain.index.read_run import locked_rows
from hpctrain.index.rows import Rows
from hpctrain.index.units import AUDIT, FOLD, RUN, STAGE, TRIAL, Unit

_MOST_PROCESSES = 8
"""A login node has other users."""
_WORTH_IT = 300
"""From so many units on, other processes save more time than their start takes."""
_PR_SET_PDEATHSIG = 1
"""Of ``linux/prctl.h``."""
_WAITING = 400
"""Largest number of units that are read and not yet written."""


@dataclass(frozen=True)
class Read:
    """A part of a unit that was read.

    Parameters
    ----------
    unit : Unit
    rows : Rows
    is_last : bool
        Whether no part follows.
    failure : str
        Why it could not be read; empty if it was.
    is_gone : bool
        Whether it was deleted meanwhile.
    """

    unit: Unit
    rows: Rows
    is_last: bool = True
    failure: str = ""
    is_gone: bool = False


def read_all(units: Sequence[Unit]) -> Iterator[Read]:
    """Yield what units hold, in any order.

    A unit that cannot be read hides no other one: it has a failure, and a run then has one row that says so.
    """
    alone = [unit for unit in units if unit.kind == AUDIT]  # read in parts, because it may be long
    others = [unit for unit in units if unit.kind != AUDIT]
    for unit in alone:
        yield from _parts_of(unit)
    processes = min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)
    if len(others) < _WORTH_IT or processes == 1:
        for unit in others:
            yield from _parts_of(unit)
    else:
        yield from _in_processes(others, processes)


def _in_processes(units: Sequence[Unit], processes: int) -> Iterator[Read]:
    room = threading.Semaphore(_WAITING)
    is_over = threading.Event()

    def given() -> Iterator[Unit]:
        for unit in units:
            room.acquire()
            if is_over.is_set():
                return
            yield unit

    with multiprocessing.get_context("fork").Pool(processes, _end_with_parent) as pool:
        try:
            for read in pool.imap_unordered(_whole, given(), chunksize=10):
                yield read
                room.release()
        finally:
            is_over.set()
            room.release()


def _end_with_parent() -> None:
    """Let a process that reads end when the one that writes is killed: nobody else would end it."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _whole(unit: Unit) -> Read:
    return next(_parts_of(unit))


def _parts_of(unit: Unit) -> Iterator[Read]:
    try:
        before: Rows | None = None
        for rows in rows_of(unit):
            if before is not None:
                yield Read(unit, before, is_last=False)
            before = rows
        yield Read(unit, before or Rows())
    except FileNotFoundError:
        yield Read(unit, Rows(), is_gone=True)
    except Exception as error:  # of a damaged file, or of the module of another package
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        is_run = unit.kind in (RUN, TRIAL, FOLD, STAGE)
        yield Read(unit, locked_rows(unit, reason) if is_run else Rows(), failure=f"{unit.path}: {reason}")
