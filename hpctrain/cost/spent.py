"""What a run has cost, attempt by attempt, from its records."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from hpctrain.cost.hours import S_PER_H
from hpctrain.cost.machine import Machine, machine_of, profile_of_run, site_of
from hpctrain.cost.money import HourlyPrice, hourly_price
from hpctrain.cost.sums import Cost, total
from hpctrain.metrics.events import CheckpointSaved, FirstStep
from hpctrain.metrics.read import History, read_history
from hpctrain.monitor.energy import J_PER_KWH
from hpctrain.monitor.ledger import AttemptSums, read_ledgers
from hpctrain.profile.site import Site
from hpctrain.profile.speeds import CORE_W, SPEEDS
from hpctrain.report.attempts import Attempt, list_attempts, read_endings
from hpctrain.rundir import RunDir


@dataclass(frozen=True)
class AttemptCost:
    """One attempt: when it ran, how it ended, on what, and what it has cost."""

    number: int
    started_at: float
    outcome: str
    machine: Machine
    cost: Cost
    price: HourlyPrice | None


@dataclass(frozen=True)
class RunCost:
    """A run: its attempts, and what advice needs of its records.

    Parameters
    ----------
    run : RunDir
    attempts : list of AttemptCost
    site : Site or None
    start_s, save_s, save_interval_s : float or None
        Medians over the run: from the start of a process to its first step, to write a checkpoint, and between two
        checkpoints [s]; None if there was none.
    notes : list of str
        What is missing, and why.
    """

    run: RunDir
    attempts: list[AttemptCost]
    site: Site | None = None
    start_s: float | None = None
    save_s: float | None = None
    save_interval_s: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> Cost:
        return total(attempt.cost for attempt in self.attempts)


def cost_of_run(run: RunDir, now: float | None = None) -> RunCost:
    """Return what a run has cost so far.

    Parameters
    ----------
    run : RunDir
        In any state.
    now : float, optional
        Seconds since 1970; the current time by default.
    """
    now = time.time() if now is None else now
    history, leases, job = read_history(run), run.read_attempts(), run.read_job()
    endings = list(read_endings(run.attempts / "ended.tsv"))
    found = list_attempts(history, leases, run.read_heartbeats(), endings, now)
    by_number = {lease["attempt"]: lease for lease in leases if "attempt" in lease}
    first_steps = {event.attempt: event for event in history.all_of(FirstStep)}
    sums: dict[int, list[AttemptSums]] = {}
    for state in read_ledgers(run):
        for each in state.attempts:
            sums.setdefault(each.attempt, []).append(each)
    written = profile_of_run(run)
    site, why = site_of(written)
    costs = []
    for index, attempt in enumerate(found):
        lease = by_number.get(attempt.number, {})
        machine = machine_of(lease.get("profile") or written, lease, job.get("cluster", ""), attempt.device, site)
        timed = _Timed(attempt, first_steps.get(attempt.number), index == 0, found[index + 1 :])
        price = hourly_price(machine, site)
        cost = _cost(timed, machine, sums.get(attempt.number, []), price, site)
        costs.append(AttemptCost(attempt.number, timed.began_at, attempt.outcome, machine, cost, price))
    return RunCost(run, costs, site, *_times(history), notes=_notes(costs, site, why))


@dataclass(frozen=True)
class _Timed:
    """An attempt and its times: the time between the start of its process and its first record counts, too."""

    attempt: Attempt
    first_step: FirstStep | None
    is_first: bool
    later: Sequence[Attempt]

    @property
    def began_at(self) -> float:
        if self.first_step is None or not self.first_step.seconds:
            return self.attempt.started_at
        return min(self.attempt.started_at, self.first_step.time_s - self.first_step.seconds)

    @property
    def seconds(self) -> float:
        return max(0.0, self.attempt.ended_at - self.began_at)

    @property
    def restart_s(self) -> float:
        """Time until the first step; all of it if the attempt has done none, and nothing for the first attempt."""
        if self.is_first:
            return 0.0
        seconds = self.first_step.seconds if self.first_step else None
        return min(self.seconds, seconds or 0.0) if self.first_step else self.seconds

    @property
    def repeated_s(self) -> float:
        """Time from the last step that a later attempt could go on from to the end of the attempt."""
        attempt = self.attempt
        if not attempt.steps_lost or not self.later:
            return 0.0
        kept = min(later.first_step for later in self.later)
        reached = [at for at, step in attempt.progress if step <= kept]
        return min(self.seconds - self.restart_s, attempt.ended_at - max([*reached, attempt.started_at]))


def _cost(
    timed: _Timed, machine: Machine, ranks: Sequence[AttemptSums], price: HourlyPrice | None, site: Site | None
) -> Cost:
    hours = timed.seconds / S_PER_H
    measured = [each.energy_j for each in ranks if each.energy_j is not None]
    measured_kwh = sum(measured) / J_PER_KWH if measured else None
    estimated_kwh = hours * power_kw(machine) if measured_kwh is None else 0.0
    carbon = site.carbon_g_per_kwh if site else None
    watched, idle = _idle(ranks, machine)
    money = {} if price is None else {price.currency: hours * price.amount}
    lost_h = (timed.repeated_s + timed.restart_s) / S_PER_H
    return Cost(
        seconds=timed.seconds,
        node_h=hours * machine.nodes,
        gpu_h=hours * machine.gpus,
        cpu_h=hours * machine.cores,
        measured_kwh=measured_kwh,
        estimated_kwh=estimated_kwh,
        co2_kg=None if carbon is None else carbon * ((measured_kwh or 0.0) + estimated_kwh) / 1000,
        money=money,
        repeated_s=timed.repeated_s,
        restart_s=timed.restart_s,
        lost_gpu_h=lost_h * machine.gpus,
        lost_cpu_h=lost_h * machine.cores,
        lost_money={} if price is None else {price.currency: lost_h * price.amount},
        idle_gpu_h=idle,
        watched_gpu_h=watched,
        attempts=1,
    )


def power_kw(machine: Machine) -> float:
    """Return the largest power of the GPUs and cores of a job [kW]; GPUs of an unknown kind count as 300 W."""
    speed = SPEEDS.get(machine.platform or "")
    gpu_w = speed.power_w if speed else 300.0
    return (machine.gpus * gpu_w + machine.cores * CORE_W) / 1000


def _idle(ranks: Sequence[AttemptSums], machine: Machine) -> tuple[float, float | None]:
    """Return the GPU hours that were watched, and those of them in which a GPU did nothing."""
    name = "mean_gpu_utilisation_percent"
    known = [each for each in ranks if name in each.statistics]
    if not known or not machine.gpus:
        return 0.0, None
    each_h = [each.measured_s / S_PER_H * min(1.0, machine.gpus / len(ranks)) for each in known]
    idle = [hours * (1 - each.statistics[name] / 100) for hours, each in zip(each_h, known, strict=True)]
    return sum(each_h), sum(idle)


def _times(history: History) -> tuple[float | None, float | None, float | None]:
    starts = [event.seconds for event in history.all_of(FirstStep) if event.seconds]
    saved = sorted(history.all_of(CheckpointSaved), key=lambda event: event.time_s)
    saves = [event.seconds for event in saved if event.seconds is not None]
    pairs = itertools.pairwise(saved)
    between = [later.time_s - one.time_s for one, later in pairs if one.attempt == later.attempt]
    return _median(starts), _median(saves), _median(between)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _notes(costs: Sequence[AttemptCost], site: Site | None, why: str) -> list[str]:
    notes = []
    if site is None:
        notes.append(f"no price and no CO2: {why}")
    elif site.prices is None:
        notes.append(f"no price: {site.source} has no prices")
    elif any(each.price is None for each in costs):
        asked = {each.machine.instance_type or each.machine.partition for each in costs if each.price is None}
        names = ", ".join(sorted(name or "no partition" for name in asked))
        notes.append(f"no price: prices in {site.source} have no entry for {names}")
    if site is not None and site.carbon_g_per_kwh is None:
        notes.append(f"no CO2: {site.source} has no carbon_g_per_kwh")
    notes += dict.fromkeys(each.price.note for each in costs if each.price and each.price.note)
    return notes
