"""How much sooner a run is finished in slices: a queue with backfill, simulated, with and without ``launch.slices``.

    python -m benchmarks.backfill                       a made queue, ten seeds
    python -m benchmarks.backfill --sacct jobs.txt --nodes 64
                                                        your own queue, recorded by
        sacct -X -a -P -n -S now-14days -r PARTITION -o Submit,Start,ElapsedRaw,TimelimitRaw,NNodes > jobs.txt
    python -m benchmarks.backfill --swf queue.swf --nodes 120 --processors-per-node 2
                                                        a queue of the Parallel Workloads Archive [2]_

The scheduler starts jobs in their order. While the first one waits, a later job may start if, by the time limits, that
does not delay the first (EASY backfill [1]_). The same queue is run twice with the same extra work: as a chain of jobs
with the long time limit, and in slices, each of which takes the free time that there is, from the shortest to the
longest slice. Each attempt loses its start and the warning before its end.

A recorded queue is also replayed alone, and the mean wait in the replay stands beside the one that was recorded: the
closer they are, the more the simulation says about this cluster. Jobs that were cancelled before they ran are left out.

References
----------
.. [1] A. W. Mu'alem and D. G. Feitelson, IEEE Transactions on Parallel and Distributed Systems 12, 529 (2001).
.. [2] S. J. Chapin et al., "Benchmarks and Standards for the Evaluation of Parallel Job Schedulers", JSSPP 1999
   (the Standard Workload Format).
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

HOUR_S = 3600.0


@dataclass(frozen=True, eq=False, order=False)
class QueuedJob:
    """A job of the queue: when it was submitted, how long it ran, its limit [s] and its nodes."""

    submitted_s: float
    runs_s: float
    limit_s: float
    nodes: int
    shortest_s: float | None = None
    waited_s: float = np.nan
    """How long it waited on the real cluster."""


class Partition:
    """The nodes of a partition, and what runs on them.

    Parameters
    ----------
    num_nodes : int
    """

    def __init__(self, num_nodes: int) -> None:
        self.free = num_nodes
        self.running: list[tuple[float, float, int, QueuedJob]] = []
        """Real end, end by the time limit, number, and the job; a heap."""
        self.waits_s: list[float] = []
        self._count = 0

    def start(self, job: QueuedJob, now_s: float, runs_s: float, limit_s: float) -> None:
        """Start a job."""
        self.free -= job.nodes
        self.waits_s.append(now_s - job.submitted_s)
        self._count += 1  # equal times are in the order of their starts
        heapq.heappush(self.running, (now_s + runs_s, now_s + limit_s, self._count, job))

    def end_until(self, now_s: float) -> list[QueuedJob]:
        """End the jobs whose time has come, and return them."""
        ended = []
        while self.running and self.running[0][0] <= now_s:
            ended.append(heapq.heappop(self.running)[-1])
            self.free += ended[-1].nodes
        return ended

    def shadow(self, nodes: int) -> tuple[float, int]:
        """Return when `nodes` will be free by the time limits, and how many others will be then."""
        free = self.free
        for end_s, count in sorted((limit_s, job.nodes) for _, limit_s, _, job in self.running):
            free += count
            if free >= nodes:
                return end_s, free - nodes
        raise ValueError(f"a job asks for {nodes} nodes, which this partition does not have")


class Chain:
    """Our run: attempts of one job, each of which does a part of the work.

    Parameters
    ----------
    job : QueuedJob
        One attempt: its limit, its nodes, and the shortest slice that it takes.
    work_s, lost_s : float
        Time that all steps need, and what each attempt loses [s].
    """

    def __init__(self, job: QueuedJob, work_s: float, lost_s: float) -> None:
        self.job, self.left_s, self.lost_s, self.attempts = job, work_s, lost_s, 0

    def begin(self, limit_s: float) -> float:
        """Begin an attempt that may take so long; return how long it runs [s]."""
        runs_s = min(limit_s, self.left_s + self.lost_s)
        self.left_s -= max(0.0, runs_s - self.lost_s)
        self.attempts += 1
        return runs_s


@dataclass(frozen=True)
class Replayed:
    """When the run was finished after its submission [s], in how many attempts, and the waits of all starts [s]."""

    finish_s: float
    attempts: int
    waits_s: list[float]


def replay(jobs: Sequence[QueuedJob], num_nodes: int, extra: QueuedJob, work_s: float, lost_s: float) -> Replayed:
    """Run a queue until `work_s` of work is done in attempts like `extra`.

    Parameters
    ----------
    jobs : sequence of QueuedJob
        In the order of submission.
    num_nodes : int
        Nodes of the partition.
    extra : QueuedJob
        One attempt: its limit, and the shortest slice that it takes.
    work_s : float
        Time that the steps of the run need [s].
    lost_s : float
        Part of each attempt in which no step is done [s].
    """
    partition, chain = Partition(num_nodes), Chain(extra, work_s, lost_s)
    arrivals = sorted([*jobs, extra], key=lambda job: job.submitted_s)
    waiting: list[QueuedJob] = []
    position, now_s = 0, 0.0
    while True:
        _start_what_may(partition, waiting, now_s, chain)
        arrival_s = arrivals[position].submitted_s if position < len(arrivals) else np.inf
        now_s = min(arrival_s, partition.running[0][0] if partition.running else np.inf)
        for job in partition.end_until(now_s):
            if job is extra and chain.left_s <= 1e-6:
                return Replayed(now_s - extra.submitted_s, chain.attempts, partition.waits_s)
            if job is extra:
                waiting.append(extra)
        while position < len(arrivals) and arrivals[position].submitted_s <= now_s:
            waiting.append(arrivals[position])
            position += 1


def _start_what_may(partition: Partition, waiting: list[QueuedJob], now_s: float, chain: Chain) -> None:
    """Start jobs in their order, then those that fit behind the first one that has to wait."""
    while waiting and waiting[0].nodes <= partition.free:
        _start(partition, waiting.pop(0), now_s, np.inf, chain)
    if not waiting:
        return
    shadow_s, spare = partition.shadow(waiting[0].nodes)
    for job in waiting[1:]:
        if job.nodes > partition.free:
            continue
        room_s = np.inf if job.nodes <= spare else shadow_s - now_s
        if (job.shortest_s or job.limit_s) <= room_s:
            waiting.remove(job)
            spare -= job.nodes if np.isinf(room_s) else 0
            _start(partition, job, now_s, room_s, chain)


def _start(partition: Partition, job: QueuedJob, now_s: float, room_s: float, chain: Chain) -> None:
    limit_s = min(job.limit_s, room_s)
    runs_s = chain.begin(limit_s) if job is chain.job else min(job.runs_s, job.limit_s)
    partition.start(job, now_s, runs_s, limit_s)


def made_queue(seed: int, num_nodes: int, load: float, days: float = 21.0) -> list[QueuedJob]:
    """Return a queue with many short and small jobs, some long and large ones, and limits far above the run times.

    Run times are log-normal, numbers of nodes powers of two, and a limit is one of the round values that users type, at
    least the run time: what the Parallel Workloads Archive reports of real queues in outline [1]_.

    References
    ----------
    .. [1] D. G. Feitelson, D. Tsafrir, D. Krakov, Journal of Parallel and Distributed Computing 74, 2967 (2014).
    """
    rng = np.random.default_rng(seed)
    largest = int(np.log2(num_nodes))
    weights = 0.6 ** np.arange(largest)
    limits_s = np.array([0.5, 1, 2, 4, 8, 12, 24, 48]) * HOUR_S
    jobs, time_s, demand = [], 0.0, 0.0
    while time_s < days * 24 * HOUR_S:
        nodes = int(2 ** rng.choice(largest, p=weights / weights.sum()))
        runs_s = float(np.clip(rng.lognormal(np.log(1.5 * HOUR_S), 1.3), 60, 47 * HOUR_S))
        limit_s = float(limits_s[min(np.searchsorted(limits_s, runs_s) + rng.integers(0, 3), len(limits_s) - 1)])
        jobs.append(QueuedJob(time_s, runs_s, limit_s, nodes))
        demand += runs_s * nodes
        time_s = demand / (load * num_nodes) + float(rng.exponential(600.0))
    return jobs


def sacct_queue(path: Path) -> list[QueuedJob]:
    """Return the queue that ``sacct -o Submit,Start,ElapsedRaw,TimelimitRaw,NNodes`` printed."""
    jobs = []
    for line in path.read_text().splitlines():
        submitted, started, elapsed, limit, nodes = (line.split("|") + [""] * 5)[:5]
        if elapsed.isdigit() and limit.isdigit() and nodes.isdigit() and int(elapsed):
            submitted_s = datetime.fromisoformat(submitted).timestamp()
            waited_s = datetime.fromisoformat(started).timestamp() - submitted_s
            jobs.append(QueuedJob(submitted_s, float(elapsed), float(limit) * 60, int(nodes), waited_s=waited_s))
    return _from_zero(jobs)


def swf_queue(path: Path, processors_per_node: int) -> list[QueuedJob]:
    """Return a queue in the Standard Workload Format; jobs that did not run or had no limit are left out.

    Parameters
    ----------
    path : pathlib.Path
    processors_per_node : int
        The format counts processors; a job takes as many whole nodes as it needs.
    """
    jobs = []
    for line in path.read_text().splitlines():
        if line.startswith(";") or not line.strip():
            continue
        _, submitted_s, waited_s, runs_s, allocated, _, _, requested, limit_s = map(float, line.split()[:9])
        nodes = math.ceil(max(allocated, requested) / processors_per_node)
        if runs_s > 0 and limit_s > 0 and nodes > 0:
            jobs.append(QueuedJob(submitted_s, runs_s, limit_s, nodes, waited_s=waited_s))
    return _from_zero(jobs)


def _from_zero(jobs: Sequence[QueuedJob]) -> list[QueuedJob]:
    first_s = min(job.submitted_s for job in jobs)
    return [replace(job, submitted_s=job.submitted_s - first_s) for job in jobs]


def mean_waits_h(jobs: Sequence[QueuedJob], num_nodes: int) -> tuple[float, float]:
    """Return the mean wait on the real cluster and in a replay without a run of ours [h]."""
    last_s = max(job.submitted_s for job in jobs)
    alone = replay(jobs, num_nodes, QueuedJob(last_s + 1, 0.0, 1.0, num_nodes), 1.0, 0.0)
    return float(np.mean([job.waited_s for job in jobs])) / HOUR_S, float(np.mean(alone.waits_s[:-1])) / HOUR_S


def compare(jobs: list[QueuedJob], arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Return the hours until the run is finished, for several days of submission, as chain and in slices."""
    found: dict[str, list[float]] = {"whole": [], "slices": [], "whole attempts": [], "slices attempts": []}
    last_s = max(job.submitted_s for job in jobs)
    for start_s in np.linspace(0.15, 0.5, arguments.starts) * last_s:
        for name, limit_h, shortest_h in (
            ("whole", arguments.limit_h, None),
            ("slices", arguments.longest_h, arguments.shortest_h),
        ):
            shortest_s = None if shortest_h is None else shortest_h * HOUR_S
            extra = QueuedJob(float(start_s), 0.0, limit_h * HOUR_S, arguments.run_nodes, shortest_s)
            done = replay(jobs, arguments.nodes, extra, arguments.work_h * HOUR_S, arguments.lost_s)
            found[name].append(done.finish_s / HOUR_S)
            found[f"{name} attempts"].append(done.attempts)
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    recorded = parser.add_mutually_exclusive_group()
    recorded.add_argument("--sacct", type=Path, help="recorded queue")
    recorded.add_argument("--swf", type=Path, help="recorded queue in the Standard Workload Format")
    parser.add_argument("--processors-per-node", type=int, default=1, help="of the cluster that --swf comes from")
    parser.add_argument("--nodes", type=int, default=64, help="nodes of the partition")
    parser.add_argument("--run-nodes", type=int, default=4, help="nodes of the run")
    parser.add_argument("--work-h", type=float, default=48.0, help="time that the steps need [h]")
    parser.add_argument("--limit-h", type=float, default=24.0, help="time limit without slices [h]")
    parser.add_argument("--shortest-h", type=float, default=0.75)
    parser.add_argument("--longest-h", type=float, default=4.0)
    parser.add_argument("--lost-s", type=float, default=240.0, help="start and warning of each attempt [s]")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.8, 0.95, 1.05], help="of a made queue")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--starts", type=int, default=6, help="days on which the run is submitted")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(words)
    if arguments.sacct or arguments.swf:
        jobs = (
            sacct_queue(arguments.sacct) if arguments.sacct else swf_queue(arguments.swf, arguments.processors_per_node)
        )
        queues = {"recorded": [jobs]}
        recorded_h, replayed_h = mean_waits_h(jobs, arguments.nodes)
        print(
            f"{len(jobs)} jobs; they waited {recorded_h:.1f} h on average, and {replayed_h:.1f} h in the replay.",
            file=sys.stderr,
        )
    else:
        queues = {
            f"load {load:g}": [made_queue(seed, arguments.nodes, load) for seed in range(arguments.seeds)]
            for load in arguments.loads
        }
    rows = {name: _joined([compare(jobs, arguments) for jobs in each]) for name, each in queues.items()}
    if arguments.json:
        print(json.dumps(rows))
        return 0
    print("queue        whole [h]   attempts   slices [h]   attempts   ratio (95 %)           saved [h] (95 %)")
    for name, found in rows.items():
        whole_h, slices_h = np.array(found["whole"]), np.array(found["slices"])
        ratio, *of_ratio = _with_interval(slices_h / whole_h, np.median)
        saved_h, *of_saved = _with_interval(whole_h - slices_h, np.mean)
        print(
            f"{name:<12} {np.median(whole_h):9.1f} {np.median(found['whole attempts']):10.0f} "
            f"{np.median(slices_h):12.1f} {np.median(found['slices attempts']):10.0f}   "
            f"{ratio:.2f} ({of_ratio[0]:.2f} to {of_ratio[1]:.2f})   "
            f"{saved_h:6.1f} ({of_saved[0]:.1f} to {of_saved[1]:.1f})"
        )
    return 0


def _with_interval(values: np.ndarray, middle: Callable[[np.ndarray], float]) -> tuple[float, float, float]:
    """Return the middle of some values, and its 95 % interval by bootstrap over the submissions."""
    rng = np.random.default_rng(0)
    low, high = np.percentile([middle(rng.choice(values, len(values))) for _ in range(2000)], [2.5, 97.5])
    return float(middle(values)), float(low), float(high)


def _joined(parts: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    return {name: [value for part in parts for value in part[name]] for name in parts[0]}


if __name__ == "__main__":
    sys.exit(main())
