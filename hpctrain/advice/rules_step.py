"""Rules about the time within a step: ranks that wait for each other, a GPU that waits for the host."""

from __future__ import annotations

from hpctrain.advice.advice import SPEED, Advice, Change
from hpctrain.advice.rules_speed import LONG_ENOUGH_S
from hpctrain.advice.summary import RunSummary, percent, share
from hpctrain.words import format_duration

WORTH_IT = 0.15
"""Share of the time that the other ranks wait for the slowest one, from which a change is worth it."""
MOSTLY = 0.8
"""Part of the waiting that must be for one rank or one node: in healthy runs now one and now another rank is last."""


def waiting_for_peers(run: RunSummary) -> Advice | None:
    """One rank, or the ranks of one node, are slower than all others, which wait for them at every step."""
    found = run.peer_waits
    part = share(sum(found.lost_s.values()), found.seconds)
    if found.seconds < LONG_ENOUGH_S or part < WORTH_IT:
        return None
    hosts = {rank.rank: rank.host for rank in run.ranks}
    lost_s = sum(found.lost_s.values())
    slowest = max(found.lost_s, key=found.lost_s.__getitem__)
    node = hosts.get(slowest, "")
    of_node = sum(seconds for rank, seconds in found.lost_s.items() if node and hosts.get(rank) == node)
    if found.lost_s[slowest] >= MOSTLY * lost_s:
        who = f"rank {slowest}{f' on {node}' if node else ''} waits for nobody, and the other ranks waited for it"
    elif len(set(hosts.values())) > 1 and of_node >= MOSTLY * lost_s:
        who = f"the ranks on {node} wait for nobody, and the others waited for them"
    else:
        return None
    changes, todo, why = _remedy(run, slowest, node, len(set(hosts.values())) > 1)
    return Advice(
        SPEED,
        f"{who} in {percent(part)} of {format_duration(found.seconds)} of steps",
        why,
        f"up to {1 / max(1 - part, 0.05):.1f} times as fast",
        changes,
        todo,
    )


def _remedy(run: RunSummary, slowest: int, node: str, has_others: bool) -> tuple[tuple[Change, ...], str, str]:
    """Return changes, what else to do, and why the rank is slow as far as the records say it."""
    found = run.peer_waits
    of_data = share(found.data_s.get(slowest, 0.0), found.seconds)
    if of_data >= WORTH_IT / 2:
        why = f"rank {slowest} itself waited for its batches in {percent(of_data)} of the time"
        return (), "look at the disk and the network of its node, or copy the data to the nodes (data.stage)", why
    why = "all ranks exchange gradients at every step, so the slowest one sets the pace"
    look = "its GPU (nvidia-smi: clock, temperature, other processes), and what else runs on its cores (top)"
    if has_others and node:
        exclude = Change("launch.exclude", sorted({*run.get("launch.exclude", []), node}))
        return (exclude,), f"tell the administrators, or look at {look}", why
    every = int(run.number("train.log_every_steps", 10))
    if slowest == 0 and every < 10:
        why = "rank 0 also writes the records, and the others wait for it meanwhile"
        return (Change("train.log_every_steps", 10),), f"look at {look}", why
    return (), f"look at {look}; two ranks on one core or one GPU share its speed", why


def gpu_waits_for_host(run: RunSummary) -> Advice | None:
    """A trace of the profiler shows that the GPU has nothing to do, although the batches are there."""
    device, parts, seconds = run.trace.get("device") or {}, run.trace.get("parts") or {}, run.trace.get("seconds") or 0
    idle = device.get("idle_share") or 0.0
    loader = share(parts.get("loader") or 0.0, seconds)
    if idle < 0.3 or loader >= 0.1:
        return None
    is_compiled = run.get("train.compile", False)
    steps = f"steps {run.trace['first_step']} to {run.trace['last_step']}"
    return Advice(
        SPEED,
        f"the GPU was idle {percent(idle)} of {steps}, which the profiler recorded, and the host waited for batches "
        f"{percent(loader)} of the time",
        "the host starts kernels more slowly than the GPU does them",
        f"up to {1 / max(1 - idle, 0.1):.1f} times as fast",
        () if is_compiled else (Change("train.compile", True),),
        "larger batches give each kernel more to do; hpctrain trace shows which parts of a step take the time",
    )
