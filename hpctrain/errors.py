"""The errors that a user can get, and the exit code of each.

::

    HpctrainError            1   our bug: shown with its traceback
    ├── ProfileError         2   the profile or the command line is wrong
    ├── SiteError            3   the cluster or the site file is wrong, or a command is missing
    ├── DataError            4   spectra are unreadable or unusable
    ├── CheckpointError      5   there is no whole checkpoint, or another attempt owns the run directory
    ├── DivergedError        6   the loss or a gradient is not finite
    ├── GateError            7   a model or an export keeps not all gates, or a device gets other results
    ├── RanksLostError      76   another rank ended before all ranks had connected; the job is requeued
    └── NodeError           77   some nodes of the job are unfit; the batch script requeues the job without them

A stop by the queue is not an error: the trainer saves and exits with :data:`EXIT_REQUEUE` (75), and the batch script
requeues the job. A rank that hangs, or that lost another rank, exits with :data:`EXIT_RANKS_LOST` (76), and the job is
requeued too. If a machine gets too hot although the run pauses, the run saves and exits with :data:`EXIT_TOO_HOT` (78);
it starts again after the machine has cooled down. After Ctrl-C the trainer saves and exits with
:data:`EXIT_INTERRUPTED` (130); any other command exits with the same code. Only ``cli.py`` and the trainer's
``__main__`` catch these errors.
"""

from __future__ import annotations

from dataclasses import dataclass

EXIT_FINISHED = 0
"""All is done."""
EXIT_BUG = 1
"""An error of hpctrain itself, shown with its traceback."""
EXIT_REQUEUE = 75
"""The run was asked to stop, and has saved; its job is requeued."""
EXIT_RANKS_LOST = 76
"""A rank hangs, or another rank is gone; the job is requeued and continues from the newest checkpoint."""
EXIT_TOO_HOT = 78
"""A machine stayed too hot although the run paused; it has saved, and starts again when the machine has cooled down."""
EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C; a trainer saves before it exits."""


class HpctrainError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = EXIT_BUG


@dataclass(frozen=True)
class Problem:
    """One problem in a user's file: its place, the value found, the remedy.

    Parameters
    ----------
    where : str
        Dotted key path, or another place within the file; empty for the file as a whole.
    message : str
        The value found, the values allowed and the remedy, in one line.
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
    """The profile, or a command line that changes it, is wrong.

    Parameters
    ----------
    source : str
        The file (or command line) that has the problems.
    problems : list of Problem
        All problems; the message lists one per line.
    """

    exit_code = 2

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{source}: {count}", *(f"  {problem}" for problem in problems)]))


class SiteError(HpctrainError):
    """The cluster, the site file or a command that the launcher needs is missing, wrong or refuses."""

    exit_code = 3


class DataError(HpctrainError):
    """Spectra are missing, damaged, or do not fit together."""

    exit_code = 4


class CheckpointError(HpctrainError):
    """There is no whole checkpoint to load, or a newer attempt owns the run directory."""

    exit_code = 5


class DivergedError(HpctrainError):
    """The loss or a gradient is NaN or infinite; the message names the step and the objects in the batch."""

    exit_code = 6


class GateError(HpctrainError):
    """A model, or an exported network, is worse than the gates of the profile allow, or an audit finds leaks."""

    exit_code = 7


class RanksLostError(HpctrainError):
    """Another rank ended before all ranks had connected."""

    exit_code = EXIT_RANKS_LOST


class NodeError(HpctrainError):
    """The pre-flight found some nodes of the job unfit, and others fit.

    Parameters
    ----------
    message : str
        Table of the problems of each node.
    nodes : list of str
        The unfit nodes.
    """

    exit_code = 77

    def __init__(self, message: str, nodes: list[str]) -> None:
        super().__init__(message)
        self.nodes = nodes
