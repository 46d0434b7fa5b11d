"""Which faults hit the same run, one after the other, and the thread that deals them out.

A rank takes seconds of CPU time to start, and a fault ends an attempt. A run that meets three faults needs four
attempts; three runs need six. The bits at the end are right only if every attempt of the chain was.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import faults_by_slurm as by_slurm
import faults_of_death as death
import faults_of_signals as signals
import faults_that_linger as lingering
from faulted_run import FaultedRun

Fault = Callable[[FaultedRun], None]

LEFT_IN_PEACE = "left-in-peace"


def name_of(fault: Fault) -> str:
    return fault.__name__.replace("_", "-")


@dataclass(frozen=True)
class Chain:
    """Faults of one run.

    Parameters
    ----------
    faults : tuple of callable
        In the order in which they hit the run.
    own_lab : bool
        The run needs a Slurm of its own, because the faults hit all jobs.
    is_slow : bool
        Only run with ``ALL_FAULTS=1`` in the environment.
    changes : dict
        Changes of the sections of the profile.
    """

    faults: tuple[Fault, ...] = ()
    own_lab: bool = False
    is_slow: bool = False
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(map(name_of, self.faults))

    @property
    def run_name(self) -> str:
        """Name of the run: that of its first fault."""
        return self.names[0] if self.faults else LEFT_IN_PEACE

    def only(self, names: Collection[str]) -> Chain:
        """Return the chain without the faults that are not named."""
        return replace(self, faults=tuple(fault for fault in self.faults if name_of(fault) in names))


CHAINS = (
    Chain(
        (
            by_slurm.preemption_with_grace,
            by_slurm.scontrol_requeue,
            death.kill_rank_1,
            death.kill_rank_0,
            death.kill_srun,
            by_slurm.time_limit,
        )
    ),
    Chain(
        (
            death.node_death,
            by_slurm.preemption_without_grace,
            death.first_node_death,
            signals.signal_on_one_rank,
            by_slurm.time_limit_shortened,
        ),
        changes={"launch": {"partition": "low"}},
    ),
    Chain(
        (
            signals.signal_during_evaluation,
            signals.signal_in_the_first_second,
            signals.second_term_later,
            signals.signal_during_a_save,
            signals.signal_during_import,
            signals.two_signals,
            signals.signal_after_the_last_step,
        )
    ),
    Chain((lingering.hang, by_slurm.scancel, death.kill_batch_shell), changes={"monitor": {"hang_timeout_s": 8}}),
    Chain((death.bad_node, lingering.unfit_node)),
    Chain((lingering.zombie,), changes={"launch": {"nodes": 1, "ranks_per_node": 2}, "monitor": {"heartbeat_s": 300}}),
    Chain((by_slurm.controller_restarted, by_slurm.controller_killed), own_lab=True),
    Chain(
        (by_slurm.time_limit_without_warning,),
        is_slow=True,
        changes={"launch": {"time_limit": "00:01:00", "signal_lead_s": 0}},
    ),
)
"""The longest first. A fault that shortens the time limit is the last of its chain: the next attempt has that limit."""

RUNNING = tuple(chain for chain in CHAINS if not chain.is_slow or os.environ.get("ALL_FAULTS") == "1")


class Course:
    """A run and the thread that deals out the faults of its chain."""

    def __init__(self, chain: Chain, run: FaultedRun) -> None:
        self.run, self._chain = run, chain
        self.followed: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}
        self._error: BaseException | None = None
        self._present = "no fault yet"
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        try:
            for fault in self._chain.faults:
                began, self._present = time.monotonic(), name_of(fault)
                self.run.begin_fault()
                fault(self.run)
                self.followed[self._present] = self.run.followed()
                self.seconds[self._present] = time.monotonic() - began
            self._present = f"the end, after {self._present}"
            self.run.wait_until_finished()
        except BaseException as error:  # raised again in the tests of these faults
            self._error = error

    def wait(self) -> FaultedRun:
        """Return the run when it has finished.

        Raises
        ------
        BaseException
            Whatever went wrong in one of its faults; a note names it.
        """
        self._thread.join()
        if self._error is not None:
            raise AssertionError(f"{' -> '.join(self._chain.names)}: failed in {self._present}") from self._error
        return self.run
