"""Ask every rule about a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hpctrain.advice import rules_cluster as cluster
from hpctrain.advice import rules_learning as learning
from hpctrain.advice import rules_memory as memory
from hpctrain.advice import rules_speed as speed
from hpctrain.advice import rules_step as step
from hpctrain.advice.advice import Advice
from hpctrain.advice.summary import RunSummary

Rule = Callable[[RunSummary], Advice | None]

RULES: Sequence[Rule] = (
    memory.gpu_out_of_memory, memory.host_out_of_memory, speed.no_gpu, cluster.full_disk, cluster.wrong_software,
    learning.diverged, cluster.no_progress,
    cluster.failing_node, cluster.attempts_end_on_one_node, cluster.broken_hardware, cluster.nccl_error,
    cluster.network_error, cluster.file_system_error, cluster.time_limit_hits, cluster.lost_ranks,
    cluster.damaged_checkpoints, cluster.mirror_fails,
    learning.doubtful_data, learning.nothing_held_out, learning.learning_rate_too_high, learning.learning_rate_too_low,
    learning.dead_gradient, learning.exploding_gradient, learning.half_precision_fails, learning.spiky_loss,
    learning.overfitting, learning.labels_not_learned, learning.samples_without_weight,
    step.waiting_for_peers, speed.slow_peer, speed.throttled_by_heat, speed.pauses_to_cool, speed.waiting_for_data,
    step.gpu_waits_for_host, speed.idle_gpu,
    speed.waiting_for_checkpoints, speed.waiting_for_evaluations, speed.steps_done_again, speed.slow_start,
    speed.staging_failed, cluster.long_waits,
)  # fmt: skip
"""All rules; the name of a rule is that of its function, with hyphens."""


def name_of(rule: Rule) -> str:
    """Return the name of a rule as users see it."""
    return rule.__name__.replace("_", "-")


def advise(run: RunSummary) -> list[Advice]:
    """Return what the rules say about a run, the most pressing advice first; empty if no rule finds anything."""
    found = [replace(said, rule=name_of(rule)) for rule in RULES if (said := rule(run)) is not None]
    return sorted(found, key=lambda said: said.topic)
