"""Rules of ``launch`` and ``platform``: values that the queue, the site or the device would refuse."""

from __future__ import annotations

import os
from pathlib import Path

from hpctrain.profile.judge import Judge, plural
from hpctrain.profile.near import did_you_mean
from hpctrain.profile.platforms import PLATFORMS, find_platform, platform_names
from hpctrain.profile.rules_access import check_access
from hpctrain.profile.sbatch_options import refusal
from hpctrain.profile.sections.base import parse_time_limit_s
from hpctrain.profile.site import Partition, Site
from hpctrain.profile.targets import TARGETS, choose_target, is_on_this_machine, runs_engine, why_not

SIGNAL_SWEEP_S = 60
"""Shortest reasonable warning [s]: Slurm looks for jobs to warn every 30 s, and the save takes time too."""

ASSUMED_START_S = 60
"""Time from the start of a job to its first new step, if the file system is slow [s]."""


def check_launch(judge: Judge, site: Site | None) -> None:
    """Judge ``launch`` and ``platform``."""
    if message := why_not(judge.profile.launch.cluster):
        judge.problem(message, "launch.cluster")
    is_here = is_on_this_machine(judge.profile.launch.cluster)
    _check_sbatch(judge)
    _check_ranks(judge)
    if is_here:
        _check_this_machine(judge)
    _check_engine(judge)
    _check_times(judge)
    _check_runs_dir(judge)
    check_access(judge, site)
    _check_platform(judge)
    if site is not None and not is_here:
        _check_site(judge, site)


def _check_sbatch(judge: Judge) -> None:
    for option in judge.profile.launch.sbatch:
        if message := refusal(option):
            judge.problem(message, f"launch.sbatch.{option}")


def _check_ranks(judge: Judge) -> None:
    launch, data = judge.profile.launch, judge.profile.data
    ranks, gpus = launch.ranks_on_each_node, launch.gpus_per_node
    if gpus and ranks > gpus and ranks % gpus:
        message = (
            f"{plural(ranks, 'rank')} cannot share {plural(gpus, 'GPU')} evenly; remove ranks_per_node: one per GPU"
        )
        judge.problem(message, "launch.ranks_per_node", "launch.gpus_per_node")
    elif gpus and ranks > gpus:
        message = (
            f"{ranks // gpus} ranks share each GPU, and their sums go through the host, because NCCL refuses a shared "
            "GPU; this is slow, and only good to try several ranks"
        )
        judge.warn(message, "launch.ranks_per_node", "launch.gpus_per_node")
    elif ranks < gpus:
        message = (
            f"{plural(ranks, 'rank')} leaves {plural(gpus - ranks, 'GPU')} of each node idle; remove ranks_per_node"
        )
        judge.warn(message, "launch.ranks_per_node", "launch.gpus_per_node")
    if data.reader_threads is not None and data.reader_threads > launch.cpus_per_rank:
        message = (
            f"{data.reader_threads} threads on {plural(launch.cpus_per_rank, 'core')} (launch.cpus_per_rank); "
            f"use {max(1, launch.cpus_per_rank - 1)}, or ask for {data.reader_threads + 1} cores"
        )
        judge.problem(message, "data.reader_threads", "launch.cpus_per_rank")


def _check_this_machine(judge: Judge) -> None:
    launch = judge.profile.launch
    if launch.nodes > 1:
        message = f"{launch.nodes} nodes, but cluster: {launch.cluster} is one machine; use nodes: 1, or cluster: slurm"
        judge.problem(message, "launch.nodes", "launch.cluster")
    wanted, cores = launch.ranks_on_each_node * launch.cpus_per_rank, _cores_here()
    if wanted > cores and launch.nodes == 1 and _may_be_this_machine(judge.profile.platform):
        message = (
            f"{plural(launch.ranks_on_each_node, 'rank')} x {launch.cpus_per_rank} = {wanted} cores, "
            f"this machine has {cores}; threads will wait for each other"
        )
        judge.warn(message, "launch.cpus_per_rank", "launch.ranks_per_node", "launch.cluster")


def _cores_here() -> int:
    """Return the cores that this process may use, or all cores if the system does not report it (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _may_be_this_machine(platform: str | None) -> bool:
    """Return whether a local run would be on this machine: users may check a profile for a Jetson on a laptop."""
    known = find_platform(platform or "")
    return known is None or not known.is_gpu or has_gpu_here()


def has_gpu_here() -> bool:
    """Return whether this machine has a GPU, by its device files."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/nvmap").exists()


def _check_engine(judge: Judge) -> None:
    launch = judge.profile.launch
    if launch.engine is not None and not runs_engine(choose_target(launch.cluster), launch.engine):
        able = " or ".join(name for name in TARGETS if runs_engine(name, launch.engine))
        message = f"{launch.engine} is started in jobs of {able}; remove it, or use cluster: {able}"
        judge.problem(message, "launch.engine", "launch.cluster")


def _check_times(judge: Judge) -> None:
    launch = judge.profile.launch
    if launch.slices is not None:
        _check_slices(judge)
        return
    limit_s, lead_s = parse_time_limit_s(launch.time_limit), launch.signal_lead_s
    where = ("launch.signal_lead_s", "launch.time_limit")
    if lead_s >= limit_s:
        message = (
            f"{lead_s} s is not shorter than the time limit, {limit_s} s ({launch.time_limit}); no step would be done"
        )
        judge.problem(message, *where)
    elif lead_s > limit_s / 2:
        judge.warn(
            f"{lead_s} s is more than half of the time limit ({launch.time_limit}); most of the time is lost", *where
        )
    elif launch.requeue and lead_s < SIGNAL_SWEEP_S:
        message = (
            f"{lead_s} s is short: Slurm may warn 30 s late, and the save must fit too; use {SIGNAL_SWEEP_S} or more"
        )
        judge.warn(message, "launch.signal_lead_s")
    if launch.max_attempts_without_progress > launch.max_attempts:
        message = f"{launch.max_attempts_without_progress} can never be reached: max_attempts is {launch.max_attempts}"
        judge.problem(message, "launch.max_attempts_without_progress", "launch.max_attempts")


def _check_slices(judge: Judge) -> None:
    launch = judge.profile.launch
    assert launch.slices is not None
    shortest_s, longest_s = parse_time_limit_s(launch.slices.shortest), parse_time_limit_s(launch.attempt_limit)
    lost_s = launch.signal_lead_s + ASSUMED_START_S
    if shortest_s > longest_s:
        message = f"{launch.slices.shortest} is longer than the longest slice ({launch.attempt_limit})"
        judge.problem(message, "launch.slices.shortest", "launch.slices.longest", "launch.time_limit")
    elif lost_s >= shortest_s:
        message = (
            f"{launch.slices.shortest} leaves no time to train: {launch.signal_lead_s} s go to the warning before the "
            f"end (launch.signal_lead_s) and some {ASSUMED_START_S} s to the start"
        )
        judge.problem(message, "launch.slices.shortest", "launch.signal_lead_s")
    elif lost_s > shortest_s / 4:
        message = (
            f"of a slice of {launch.slices.shortest}, {lost_s / shortest_s:.0%} go to start and warning; lower "
            "launch.signal_lead_s if saves are fast, or take longer slices"
        )
        judge.warn(message, "launch.slices.shortest", "launch.signal_lead_s")
    if not launch.requeue:
        message = "off, so the run would end with its first slice; switch it on"
        judge.problem(message, "launch.requeue", "launch.slices")
    if "time-min" in launch.sbatch:
        judge.problem("launch.slices.shortest says the same; remove one", "launch.sbatch.time-min", "launch.slices")


def _check_runs_dir(judge: Judge) -> None:
    folder = Path(judge.profile.launch.runs_dir).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        judge.problem(f"'{existing}' is a file; name a folder", "launch.runs_dir")
    elif not os.access(existing, os.W_OK | os.X_OK):
        judge.problem(f"'{existing}' cannot be written to; name a folder of yours", "launch.runs_dir")


def _check_platform(judge: Judge) -> None:
    name, launch, train = judge.profile.platform, judge.profile.launch, judge.profile.train
    if launch.gpus_per_node == 0 and train.device == "cuda":
        message = "cuda, but launch.gpus_per_node is 0; ask for GPUs, or use auto"
        judge.problem(message, "train.device", "launch.gpus_per_node")
    if launch.gpus_per_node and train.device == "cpu":
        message = f"cpu leaves {plural(launch.gpus_per_node, 'GPU')} per node idle; set launch.gpus_per_node: 0"
        judge.warn(message, "train.device", "launch.gpus_per_node")
    if name is None:
        return
    platform = find_platform(name)
    if platform is None:
        near = did_you_mean(name, PLATFORMS) if not did_you_mean(name, platform_names()).endswith("?") else ""
        judge.problem(f"there is no platform '{name}'{near or did_you_mean(name, platform_names())}", "platform")
    elif not platform.is_gpu and launch.gpus_per_node:
        asked = plural(launch.gpus_per_node, "GPU")
        judge.problem(
            f"cpu, but launch asks for {asked} per node; set launch.gpus_per_node: 0",
            "platform",
            "launch.gpus_per_node",
        )
    elif platform.is_gpu and not launch.gpus_per_node:
        judge.warn(
            f"{platform.title}, but launch.gpus_per_node is 0: the CPUs would train", "platform", "launch.gpus_per_node"
        )


def _check_site(judge: Judge, site: Site) -> None:
    launch = judge.profile.launch
    if launch.partition is not None and site.partitions and launch.partition not in site.partitions:
        message = (
            f"{site.source} has no partition '{launch.partition}'{did_you_mean(launch.partition, site.partitions)}"
        )
        judge.problem(message, "launch.partition", "launch.site")
        return
    partition = site.partition_for(launch.partition)
    if partition is not None:
        name = launch.partition or site.default_partition
        _check_partition(judge, partition, f"partition '{name}'", site.source)


def _check_partition(judge: Judge, partition: Partition, name: str, source: str) -> None:
    launch = judge.profile.launch
    also = ("launch.partition", "launch.site")
    cores = launch.ranks_on_each_node * launch.cpus_per_rank
    if partition.max_time and parse_time_limit_s(launch.attempt_limit) > parse_time_limit_s(partition.max_time):
        message = (
            f"{launch.attempt_limit} is above the limit of {name} ({partition.max_time}, {source}); lower it, "
            "the job requeues itself when it reaches the limit"
        )
        judge.problem(message, "launch.time_limit", *also)
    limits = (
        ("launch.nodes", launch.nodes, partition.max_nodes, "nodes"),
        ("launch.gpus_per_node", launch.gpus_per_node, partition.gpus_per_node, "GPUs per node"),
        ("launch.memory_gib_per_node", launch.memory_gib_per_node or 0, partition.memory_gib, "GiB per node"),
    )
    for where, wanted, limit, unit in limits:
        if limit is not None and wanted > limit:
            judge.problem(
                f"{wanted:g} is above the limit of {name} ({limit:g} {unit}, {source}); lower it", where, *also
            )
    if partition.cores is not None and cores > partition.cores:
        message = (
            f"{plural(launch.ranks_on_each_node, 'rank')} x {launch.cpus_per_rank} = {cores} cores, a node of {name} "
            f"has {partition.cores} ({source}); use {max(1, partition.cores // launch.ranks_on_each_node)}"
        )
        judge.problem(message, "launch.cpus_per_rank", "launch.ranks_per_node", "launch.gpus_per_node", *also)
    named, there = find_platform(judge.profile.platform or ""), find_platform(partition.platform or "")
    if named is not None and there is not None and named != there:
        judge.problem(f"{named.name}, but {name} has {there.name} ({source}); name that one", "platform", *also)
