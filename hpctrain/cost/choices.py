"""On which partition, instance type or platform a profile fits, and which of them is the cheapest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from hpctrain.cost.estimate import Estimate, rough_step_s
from hpctrain.cost.machine import Machine
from hpctrain.cost.money import amount_per_hour, amount_text
from hpctrain.profile.instances import INSTANCES
from hpctrain.profile.judge import Findings
from hpctrain.profile.memory import MemoryNeed
from hpctrain.profile.platforms import PLATFORMS, Platform, find_platform
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.prices import PriceSection
from hpctrain.profile.site import Site

HALF_PRECISIONS = {"bf16": "has_bf16", "fp16": "has_fp16"}


@dataclass(frozen=True)
class Choice:
    """One place where the profile could run.

    Parameters
    ----------
    name : str
        Partition, instance type or platform.
    platform : str
    reason : str
        Why it cannot run there; empty if it can.
    hours, money : float or None
        Time, and money for all of it; None if they are not known.
    batch : str
        The batch that fits, if it is not that of the profile.
    """

    name: str
    platform: str
    reason: str = ""
    hours: float | None = None
    money: float | None = None
    batch: str = ""


def choices(findings: Findings, estimated: Estimate | None) -> list[Choice]:
    """Return where the profile fits, the cheapest first, then where it does not.

    The candidates are the partitions and instance types that the site has prices for. Times are scaled from the
    estimate by the work of a step on each platform, so that they share its doubt. Without prices the candidates are the
    platforms themselves, and only the memory and the precision are judged.

    Parameters
    ----------
    findings : Findings
        Of a check with the estimate of memory.
    estimated : Estimate or None
    """
    profile, found = findings.profile, findings.measurement
    if profile is None or found is None or not found.num_parameters:
        return []
    candidates = list(_priced(profile, findings.site)) if findings.site and findings.site.prices else []
    if candidates:
        listed = [_choice(findings, estimated, *each) for each in candidates]
    else:
        gpus = (platform for platform in PLATFORMS.values() if platform.is_gpu and not platform.is_unified)
        plain = [(each.name, each, None, None) for each in gpus]
        listed = [_choice(findings, None, *each) for each in plain]
    return sorted(listed, key=lambda each: (bool(each.reason), math.inf if each.money is None else each.money))


def lines_of(found: list[Choice], estimated: Estimate | None, currency: str = "") -> list[str]:
    """Return the choices in at most three lines."""
    fits, not_fit = [each for each in found if not each.reason], [each for each in found if each.reason]
    priced = [each for each in fits if each.money is not None]
    lines = []
    if priced:
        first, *others = priced
        more = "; ".join(f"{each.name} {_amount(each, currency)}" for each in others[:6])
        text = f"cheapest: {first.name} ({first.platform}), {_amount(first, currency)}"
        lines.append(f"{text}; {more}" if more else text)
    elif fits:
        lines.append(f"memory and precision fit {', '.join(each.name for each in fits)}")
    if not_fit:
        reasons: dict[str, list[str]] = {}
        for each in not_fit:
            reasons.setdefault(each.reason, []).append(each.name)
        lines.append("not on " + "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items()))
    if priced and estimated is not None and any(each.platform != estimated.machine.platform for each in priced):
        lines.append("times on other platforms follow from the work of a step; they may be wrong by a factor of two")
    return lines


def _amount(each: Choice, currency: str) -> str:
    batch = f" with {each.batch}" if each.batch else ""
    return f"{amount_text(each.money or 0.0, currency)}, {each.hours:.2g} h{batch}"


_Candidate = tuple[str, Platform, Machine | None, PriceSection | None]


def _priced(profile: Profile, site: Site) -> Iterator[_Candidate]:
    """Yield name, platform, machines and price of everything that the site has a price for."""
    launch, prices = profile.launch, site.prices
    assert prices is not None
    ranks = launch.world_size
    gpus, cores = launch.nodes * launch.gpus_per_node, float(ranks * launch.cpus_per_rank)
    for name, entry in prices.partitions.items():
        partition = site.partitions.get(name)
        platform = find_platform(partition.platform) if partition and partition.platform else None
        if partition is not None and not partition.gpus_per_node:
            platform = PLATFORMS["cpu"]
        if platform is None:
            continue
        on_gpus = gpus or ranks
        per_node = (partition.gpus_per_node if partition else None) or launch.gpus_per_node or 1
        nodes = math.ceil(on_gpus / per_node) if platform.is_gpu else launch.nodes
        machine = Machine(nodes, float(on_gpus if platform.is_gpu else 0), cores, partition=name, is_spot=launch.spot)
        yield name, platform, replace(machine, platform=platform.name), entry
    by_name = {each.name: each for each in INSTANCES}
    for name, entry in prices.instance_types.items():
        if (known := by_name.get(name)) is None:
            continue
        wanted = gpus or ranks
        nodes = math.ceil(wanted / known.gpus) if known.gpus else launch.nodes
        platform = PLATFORMS[known.platform]
        machine = Machine(nodes, float(nodes * known.gpus), float(nodes * known.vcpus // 2), instance_type=name)
        yield name, platform, replace(machine, platform=platform.name, is_spot=launch.spot), entry


def _choice(
    findings: Findings,
    estimated: Estimate | None,
    name: str,
    platform: Platform,
    machine: Machine | None,
    entry: PriceSection | None,
) -> Choice:
    profile, found = findings.profile, findings.measurement
    assert profile is not None
    assert found is not None
    has = HALF_PRECISIONS.get(profile.train.precision)
    if has is not None and not getattr(platform, has):
        return Choice(name, platform.name, f"no {profile.train.precision}")
    batch = ""
    if platform.is_gpu:
        need = MemoryNeed(found, profile, platform, platform.memory_gib, profile.launch.ranks_per_gpu)
        if not need.fits:
            best = need.best_batch()
            if best is None:
                needed = f"needs {need.needed_gib(1):.1f} of {platform.memory_gib:g} GiB even for a batch of 1"
                return Choice(name, platform.name, needed)
            batch = f"batch_size {best[0]}, accumulation {best[1]}"
    if machine is None or entry is None or estimated is None:
        return Choice(name, platform.name, batch=batch)
    ratio = _slower(findings, estimated, platform.name)
    if ratio is None:
        return Choice(name, platform.name, batch=batch)
    hours = estimated.with_steps_of(ratio).hours
    return Choice(name, platform.name, "", hours, hours * amount_per_hour(entry, machine, machine.is_spot), batch)


def _slower(findings: Findings, estimated: Estimate, platform: str) -> float | None:
    """Return how many times as long the steps take on another platform; None if that is not known."""
    if platform == estimated.machine.platform:
        return 1.0
    there = rough_step_s(findings, estimated.machine, platform)
    here = rough_step_s(findings, estimated.machine)
    return there / here if there and here else None
