"""What a run will cost, before it is submitted: from the speed of an earlier run, else from the work of a step."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpctrain.cost.earlier import Earlier, find_earlier
from hpctrain.cost.hours import S_PER_H, energy_kwh_of, gpu_hours_of
from hpctrain.cost.machine import Machine, machine_of
from hpctrain.cost.money import HourlyPrice, amount_text, hourly_price
from hpctrain.cost.spent import power_kw
from hpctrain.launch.forecast import Forecast, forecast, likely_waits, own_waits_s, partition_waits_s
from hpctrain.launch.history import read_history
from hpctrain.launch.submit import with_absolute_paths
from hpctrain.launch.targets import choose_target, find_target
from hpctrain.profile.check import memory_need
from hpctrain.profile.families import family_of
from hpctrain.profile.judge import Findings
from hpctrain.profile.length import num_steps
from hpctrain.profile.load import plain_values
from hpctrain.profile.memory import Measurement, remembered
from hpctrain.profile.rules_launch import has_gpu_here
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.base import parse_time_limit_s
from hpctrain.profile.site import Site
from hpctrain.profile.speeds import FACTOR, SPEEDS, pass_time_s
from hpctrain.profile.targets import is_on_this_machine
from hpctrain.words import format_short_duration

ASSUMED_START_S = 30.0
"""Time from the start of a process to its first step where no earlier run tells it [s]."""


@dataclass(frozen=True)
class Estimate:
    """What a run will need from now on.

    Parameters
    ----------
    steps : int
        Steps that are still to do.
    step_s, start_s : float
        Time of one step, and from the start of an attempt to its first step [s].
    machine : Machine
    finish : Forecast
        When it will be finished, with the waits in the queue as far as they are known.
    source : str
        Where the time of a step comes from.
    is_rough : bool
        Whether it may be wrong by a factor of two.
    power_kw : float
    is_power_measured : bool
        Whether the power is that of an earlier run, and not the largest one.
    price : HourlyPrice or None
    carbon_g_per_kwh : float or None
    """

    steps: int
    step_s: float
    start_s: float
    machine: Machine
    finish: Forecast
    source: str
    is_rough: bool
    power_kw: float
    is_power_measured: bool
    price: HourlyPrice | None
    carbon_g_per_kwh: float | None

    @property
    def hours(self) -> float:
        """Time that the machines are needed [h]."""
        return (self.steps * self.step_s + max(1, self.finish.attempts) * self.start_s) / S_PER_H

    def with_steps_of(self, ratio: float) -> Estimate:
        """Return the same with steps that take `ratio` times as long."""
        return replace(self, step_s=self.step_s * ratio)

    @property
    def gpu_h(self) -> float:
        return self.hours * self.machine.gpus

    @property
    def kwh(self) -> float:
        return self.hours * self.power_kw

    @property
    def money(self) -> float | None:
        return None if self.price is None else self.hours * self.price.amount

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "steps": self.steps,
            "step_s": self.step_s,
            "hours": self.hours,
            "gpu_hours": self.gpu_h,
            "cpu_hours": self.hours * self.machine.cores,
            "kwh": self.kwh,
            "is_power_measured": self.is_power_measured,
            "co2_kg": None if self.carbon_g_per_kwh is None else self.kwh * self.carbon_g_per_kwh / 1000,
            "money": self.money,
            "currency": None if self.price is None else self.price.currency,
            "prices_of": None if self.price is None else self.price.date,
            "source": self.source,
            "may_be_wrong_by": FACTOR if self.is_rough else None,
            "finished_at": time.time() + self.finish.left_s,
            "attempts": self.finish.attempts,
            "wait_s": self.finish.wait_s,
            "waits": self.finish.source,
        }


def estimate(findings: Findings, has_queue: bool, ask_queue: bool = False, steps_done: int = 0) -> Estimate | None:
    """Return what a checked profile will need; None if neither an earlier run nor its work tells it.

    Parameters
    ----------
    findings : Findings
        Without problems; its profile has absolute paths.
    has_queue : bool
        Whether jobs wait for machines.
    ask_queue : bool
        Ask the accounts of the cluster for waits if the earlier run has none; this may take a second.
    steps_done : int
        Steps that a run that goes on has done already.
    """
    profile, site = findings.profile, findings.site
    if profile is None:
        return None
    device = "cpu" if _is_without_gpu(profile) else profile.platform or ""
    machine = machine_of(plain_values(profile), {}, "", device, site)
    earlier = find_earlier(profile)
    measurement = findings.measurement
    num_train = (measurement.num_train if measurement else None) or (earlier.num_train if earlier else None)
    if not num_train:
        return None
    if earlier is not None:
        step_s, source = earlier.step_s, f"as in {earlier.run.name}/{earlier.run.run_id}"
        source += "" if earlier.num_train else ", which read other files"
    elif (rough := rough_step_s(findings, machine)) is not None:
        step_s, source = rough, f"from the work of a step on {machine.platform}"
    else:
        return None
    steps = max(0, num_steps(profile, num_train) - steps_done)
    start_s = (earlier.start_s if earlier else 0.0) or ASSUMED_START_S
    power, is_measured = _power(earlier, machine)
    finish = _finish(profile, machine, steps * step_s, start_s, earlier, has_queue, ask_queue)
    price = hourly_price(machine, site)
    carbon = site.carbon_g_per_kwh if site else None
    is_rough = earlier is None
    return Estimate(steps, step_s, start_s, machine, finish, source, is_rough, power, is_measured, price, carbon)


def estimate_from_here(findings: Findings, ask_queue: bool = False, steps_done: int = 0) -> Estimate | None:
    """Return the :func:`estimate` for a profile whose paths begin in the working directory.

    Parameters
    ----------
    findings : Findings
    ask_queue : bool
    steps_done : int
    """
    if findings.profile is None:
        return None
    absolute = replace(
        findings,
        profile=with_absolute_paths(findings.profile, Path.cwd()),
        measurement=findings.measurement or remembered(findings.profile),
    )
    target = find_target(choose_target(findings.profile.launch.cluster))
    return estimate(absolute, target.has_queue, ask_queue, steps_done)


def _is_without_gpu(profile: Profile) -> bool:
    """Return whether a run on this machine would use no GPU, although the profile asks for one."""
    if not is_on_this_machine(profile.launch.cluster):
        return False
    return profile.train.device == "cpu" or (profile.platform is None and not has_gpu_here())


def rough_step_s(findings: Findings, machine: Machine, platform: str | None = None) -> float | None:
    """Return the time of a step from its work [s]; None if the work or the device is not known."""
    profile, found = findings.profile, findings.measurement
    name = platform or machine.platform
    if profile is None or found is None or not _is_counted(found) or name not in SPEEDS:
        return None
    if family_of(profile).how != "gradient":
        return None
    micro_batch = profile.update_shape.micro_batch
    if micro_batch is None:
        need = memory_need(findings)
        if need is None:
            return None
        micro_batch = need.batch_size
    passes = max(1, profile.global_batch // (micro_batch * profile.launch.world_size))
    one = pass_time_s(
        name,
        profile.train.precision,
        micro_batch,
        found.flop_per_sample,
        found.made_bytes_per_sample,
        found.kernels_per_pass,
        profile.launch.cpus_per_rank,
        profile.train.compile,
    )
    return passes * one * profile.launch.ranks_per_gpu


def lines_of(found: Estimate, site: Site | None = None) -> list[str]:
    """Return an estimate in words."""
    doubt = f"; the truth may be {FACTOR:g} times less or more" if found.is_rough else ""
    parts = [f"about {format_short_duration(found.hours * S_PER_H)}"]
    parts += [f"{found.gpu_h:.3g} GPU h"] if found.gpu_h else [f"{found.hours * found.machine.cores:.3g} CPU h"]
    parts.append(f"{found.kwh:.3g} kWh{'' if found.is_power_measured else ' at most'}")
    if found.carbon_g_per_kwh is not None:
        parts.append(f"{found.kwh * found.carbon_g_per_kwh / 1000:.3g} kg CO2")
    if found.price is not None and found.money is not None:
        parts.append(f"{amount_text(found.money, found.price.currency)} (prices of {found.price.date})")
    step = f"{found.steps:,} steps of {_short_s(found.step_s)}, {found.source}{doubt}"
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + found.finish.left_s))
    attempts = "1 attempt" if found.finish.attempts <= 1 else f"{found.finish.attempts} attempts"
    waits = f", each after {format_short_duration(found.finish.wait_s)} in the queue" if found.finish.wait_s else ""
    source = f" ({found.finish.source})" if found.finish.source else ""
    return [
        f"cost {', '.join(parts)}",
        f"  {step}",
        f"  finished about {at} if it is submitted now: {attempts}{waits}{source}",
    ]


def _short_s(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _is_counted(found: Measurement) -> bool:
    return found.made_bytes_per_sample > 0


def _power(earlier: Earlier | None, machine: Machine) -> tuple[float, bool]:
    """Return the mean power of the earlier run [kW], or the largest power, and whether it was measured."""
    if earlier is not None and machine.gpus:
        kwh, rank_h = energy_kwh_of(earlier.run), gpu_hours_of(earlier.run)
        if kwh is not None and rank_h:
            return kwh / rank_h * machine.gpus, True
    return power_kw(machine), False


def _finish(
    profile: Profile,
    machine: Machine,
    work_s: float,
    start_s: float,
    earlier: Earlier | None,
    has_queue: bool,
    ask_queue: bool,
) -> Forecast:
    launch = profile.launch
    if not has_queue:
        return Forecast(work_s + start_s, 1, 0.0, "")
    limit_s = float(parse_time_limit_s(launch.slices.shortest if launch.slices else launch.time_limit))
    own: list[float] = []
    if earlier is not None:
        own = own_waits_s(read_history(earlier.run), earlier.run.read_attempts()) + _first_wait_s(earlier)
    others = partition_waits_s(machine.partition, launch.nodes, limit_s) if ask_queue and len(own) < 3 else []
    waits, source = likely_waits(own, others)
    source = "as the run before" if source == "as so far" else source
    return forecast(work_s, None, limit_s, waits, launch.signal_lead_s + start_s, source)


def _first_wait_s(earlier: Earlier) -> list[float]:
    """Return how long the earlier run waited for its first attempt [s]."""
    submitted = earlier.run.read_job().get("submitted_at")
    starts = [lease["started_at"] for lease in earlier.run.read_attempts() if "started_at" in lease]
    return [min(starts) - submitted] if submitted is not None and starts and min(starts) >= submitted else []
