"""Two runs of one profile on this machine: one left alone, one cut at random moments and started again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpctrain.errors import EXIT_FINISHED, EXIT_REQUEUE, HpctrainError
from hpctrain.rundir import RunDir

CUTS = {
    "SIGKILL to all ranks": (signal.SIGKILL, "all"),
    "SIGKILL to one rank": (signal.SIGKILL, "one"),
    "SIGTERM to all ranks": (signal.SIGTERM, "all"),
    "SIGUSR2 to one rank": (signal.SIGUSR2, "one"),
}
"""The ways a run is cut: what dying nodes, the out-of-memory killer, pre-emption and time limits do to ranks."""

_POLL_S = 0.01
_END_WITHIN_S = 120.0


@dataclass(frozen=True)
class Cut:
    """One interruption of the second run.

    Parameters
    ----------
    how : str
        Key of :data:`CUTS`.
    at_step : int
        Last step that was on record when the signal was sent.
    exit_codes : list of int
        Of the ranks; negative where a signal killed one.
    resumed_from : int
        Step of the checkpoint the next attempt went on from.
    steps_redone : int
        Updates between that checkpoint and the last one on record.
    """

    how: str
    at_step: int
    exit_codes: list[int]
    resumed_from: int
    steps_redone: int


class Ranks:
    """The processes of one attempt on this machine."""

    def __init__(self, run: RunDir, world_size: int, attempt: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.processes = []
        for rank in range(world_size):
            environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
            environment |= {
                "RANK": str(rank),
                "WORLD_SIZE": str(world_size),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(world_size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "HPCTRAIN_JOB_ID": f"verify-{os.getpid()}",
                "HPCTRAIN_RESTART_COUNT": str(attempt),
            }
            log = run.logs / f"verify.{attempt:03d}-rank-{rank:04d}.log"
            with open(log, "ab") as stream:
                command = [sys.executable, "-m", "hpctrain.train", str(run.path)]
                self.processes.append(
                    subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
                )

    def codes(self) -> list[int | None]:
        return [process.poll() for process in self.processes]

    def signal(self, number: int, ranks: list[int]) -> None:
        for rank in ranks:
            if self.processes[rank].poll() is None:
                self.processes[rank].send_signal(number)

    def join(self, timeout_s: float = _END_WITHIN_S) -> list[int]:
        """Wait for all; once one has failed the others are ended, as ``srun --kill-on-bad-exit`` does it."""
        deadline = None
        while None in self.codes():
            failed = [code for code in self.codes() if code not in (None, EXIT_FINISHED, EXIT_REQUEUE)]
            if failed and deadline is None:
                deadline = time.monotonic() + timeout_s
                self.signal(signal.SIGKILL, list(range(len(self.processes))))
            time.sleep(_POLL_S)
        return [process.wait() for process in self.processes]


def run_straight(run: RunDir, world_size: int) -> None:
    """Run to the end in one attempt.

    Raises
    ------
    HpctrainError
        It did not finish; the message names the log.
    """
    codes = Ranks(run, world_size, 0).join()
    if set(codes) != {EXIT_FINISHED}:
        raise HpctrainError(f"{run.path}: the run that nobody disturbs ended with {codes}; see {run.logs}")


def run_cut(
    run: RunDir, world_size: int, num_cuts: int, total_steps: int, seed: int, say: Callable[[str], None]
) -> list[Cut]:
    """Run to the end in `num_cuts` + 1 attempts.

    Parameters
    ----------
    run : RunDir
    world_size : int
    num_cuts : int
        Attempts that are ended by a signal.
    total_steps : int
        Of the run; the steps to cut at are drawn from all of them, the moment within a step at random too.
    seed : int
        Of these draws.
    say : callable
        Told about each cut.

    Returns
    -------
    list of Cut

    Raises
    ------
    HpctrainError
        An attempt ended with another code than the signal explains.
    """
    draw = random.Random(seed)
    targets = sorted(draw.sample(range(1, max(2, total_steps)), k=min(num_cuts, max(1, total_steps - 1))))
    cuts = []
    for number, target in enumerate(targets):
        how = draw.choice(list(CUTS))
        ranks = Ranks(run, world_size, number)
        reached = _wait_for_step(run, ranks, target)
        _refuse_own_failure(run, number, ranks)
        time.sleep(draw.uniform(0.0, 0.1))  # somewhere within an update, a save or an evaluation
        signal_number, whom = CUTS[how]
        everybody = list(range(world_size))
        ranks.signal(signal_number, everybody if whom == "all" else [draw.choice(everybody)])
        codes = ranks.join()
        cuts.append((how, reached, codes))
        say(f"cut {number + 1} of {len(targets)}: {how} after step {reached}, exit codes {codes}")
        if set(codes) == {EXIT_FINISHED}:
            break
    codes = Ranks(run, world_size, len(targets)).join()
    if set(codes) != {EXIT_FINISHED}:
        raise HpctrainError(f"{run.path}: the last attempt ended with {codes}; see {run.logs}")
    return _with_resumes(run, cuts)


def _refuse_own_failure(run: RunDir, number: int, ranks: Ranks) -> None:
    """Raise when an attempt has ended by itself, before any signal, without being finished."""
    failed = [code for code in ranks.codes() if code not in (None, EXIT_FINISHED)]
    if failed:
        codes = ranks.join()
        raise HpctrainError(f"{run.path}: attempt {number + 1} ended by itself with {codes}; see {run.logs}")


def _wait_for_step(run: RunDir, ranks: Ranks, step: int) -> int:
    """Return the newest step on record once it has reached `step`, or when the attempt has ended before."""
    while True:
        newest = max((record["step"] for record in run.read_metrics("train")), default=0)
        if newest >= step or None not in ranks.codes():
            return newest
        time.sleep(_POLL_S)


def _with_resumes(run: RunDir, cuts: list[tuple[str, int, list[int]]]) -> list[Cut]:
    """Join the cuts with where the attempts after them went on."""
    resumed = {record["attempt"]: record for record in run.read_metrics("event") if record["event"] == "resumed"}
    joined = []
    for number, (how, reached, codes) in enumerate(cuts):
        after = resumed.get(number + 2, {})
        start = int(after.get("step", 0))
        joined.append(Cut(how, reached, codes, start, max(0, reached - start)))
    return joined


def make_twin(runs_dir: Path, name: str, run_id: str, profile_text: str) -> RunDir:
    """Make a run directory for one of the twins."""
    run = RunDir.create(runs_dir, name, run_id)
    run.profile.write_text(profile_text, encoding="utf-8")
    return run
