"""The errors a user can meet, and the exit code of each.

::

    HpctrainError            1   our bug: shown with its traceback
    ├── ProfileError         2   the profile or the command line is wrong
    ├── SiteError            3   the cluster, the site file or a missing command
    ├── DataError            4   spectra that cannot be read or used
    ├── CheckpointError      5   no whole checkpoint, or a run directory that another attempt owns
    ├── DivergedError        6   the loss or a gradient is not finite
    ├── GateError            7   an export lost more than its gates allow, or a device gets other results
    ├── RanksLostError      76   another rank ended before all ranks had come; the job is requeued
    └── NodeError           77   some nodes of the job are not fit; the batch script tries again without them

A stop by the queue is no error: the trainer saves and exits with :data:`EXIT_REQUEUE` (75), and the batch script
requeues the job. A rank that hangs, or that lost another rank, exits with :data:`EXIT_RANKS_LOST` (76), and the job is
requeued too. If a machine gets too hot although the run pauses, the run saves and exits with :data:`EXIT_TOO_HOT` (78);
it starts again after the machine has cooled down. After Ctrl-C the trainer saves and exits with
:data:`EXIT_INTERRUPTED` (130); any other command exits with the same code. Only ``cli.py`` and the trainer's
``__main__`` catch these errors.
"""

from __future__ import annotations

from dataclasses import dataclass

EXIT_FINISHED = 0
EXIT_BUG = 1
EXIT_REQUEUE = 75
EXIT_RANKS_LOST = 76
EXIT_TOO_HOT = 78
EXIT_INTERRUPTED = 130
"""Ctrl-C; a trainer has saved."""


class HpctrainError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = EXIT_BUG


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a user's file: where it stands, what was found, what to do.

    Parameters
    ----------
    where : str
        Dotted key path, or another place within the file; empty for the file as a whole.
    message : str
        What was found, what is allowed and what to do, in one line.
    line : int, optional
        Line of the file, counted from 1.
    """

    where: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        where = f"{self.where}: " if self.where else ""
        return f"{line}{where}{self.message}"


class ProfileError(HpctrainError):
    """The profile, or a command line that changes it, asks for something that cannot be.

    Parameters
    ----------
    source : str
        The file (or command line) the problems were found in.
    problems : list of Problem
        All of them; the message lists one a line.
    """

    exit_code = 2

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{source}: {count}", *(f"  {problem}" for problem in problems)]))


class SiteError(HpctrainError):
    """The cluster, the site file or a command the launcher needs is missing or refuses."""

    exit_code = 3


class DataError(HpctrainError):
    """Spectra that are missing, damaged, or do not fit together."""

    exit_code = 4


class CheckpointError(HpctrainError):
    """No whole checkpoint to load, or a run directory that a newer attempt owns."""

    exit_code = 5


class DivergedError(HpctrainError):
    """The loss or a gradient is NaN or infinite; names the step and the objects in the batch."""

    exit_code = 6


class GateError(HpctrainError):
    """An exported network lost more of its science, or is slower, than the gates of the profile allow."""

    exit_code = 7


class RanksLostError(HpctrainError):
    """Another rank ended before all ranks had come."""

    exit_code = EXIT_RANKS_LOST


class NodeError(HpctrainError):
    """The pre-flight found some nodes of the job unfit, and others fit.

    Parameters
    ----------
    message : str
        Table of what is wrong with each.
    nodes : list of str
        The unfit ones.
    """

    exit_code = 77

    def __init__(self, message: str, nodes: list[str]) -> None:
        super().__init__(message)
        self.nodes = nodes
