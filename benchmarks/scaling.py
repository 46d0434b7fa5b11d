"""What a step, a start and an hour cost on 8 to 4,096 GPUs, and what would break first: docs/scaling.md explains it.

    python benchmarks/scaling.py                 the table, from the constants below
    python benchmarks/scaling.py --gloo 8,32,64  count what Gloo asks the store for, with that many real ranks

Each constant says whether it was measured or where it was published. The time of a step follows from the model of
``hpctrain check`` (:func:`hpctrain.profile.speeds.pass_time_s`), and the cost of faults from that of ``hpctrain cost``
(:func:`hpctrain.cost.spot.expected_ratio`). Network and file system are those of the constants, not of this machine.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hpctrain.cost.spot import expected_ratio
from hpctrain.profile.speeds import pass_time_s

GPUS = (8, 64, 512, 4096)
PER_NODE = 8

# Collectives. Formulas and latencies of each hop [s]: NCCL, src/graph/tuning.cc (protocol Simple).
RING_HOP_S, TREE_HOP_S = 3.4e-6, 4.0e-6  # within a node, NVLink
NODE_HOP_S = 14e-6  # between nodes
BASE_S = 8.4e-6
NODE_BANDWIDTH = 0.8 * 8 * 50e9  # bytes/s: eight ports of 400 Gb/s (data sheet of the DGX H100), 0.8 of it assumed
NVLINK_BANDWIDTH = 0.8 * 450e9  # bytes/s in one direction (the same data sheet), 0.8 of it assumed
TREE_BANDWIDTH = 0.92  # of the ring's: NCCL, the same file
BUCKET_BYTES = 25 << 20  # default of DistributedDataParallel
BACKWARD_SHARE = 2 / 3  # of the work of a step, during which sums can run

# File system. Rates of a Lustre with one metadata server [1/s]: Dell, "HPC Lustre Storage solution with Mellanox
# Infiniband EDR", figure 12 (240 threads). Bandwidths [byte/s] are assumed: 100 GB/s in all, 2 GB/s of one writer.
CREATES, STATS = 29e3, 544e3
FS_BANDWIDTH, ONE_WRITER = 100e9, 2e9

# The trainer, counted by strace on rank 1 of a run of two ranks (November 2026, Python 3.11, torch 2.13).
IMPORT_OPENS, IMPORT_STATS = 3900, 31500  # opens and listings, and questions about names, until the first step
RUN_OPENS, RUN_STATS = 45, 24  # in the run directory at the start: opens, folders and renames; questions
BEAT_CREATES, SAMPLE_CREATES = 2, 2  # a heartbeat and a sample: a new file and a rename each
BEAT_S, SAMPLE_S = 10.0, 5.0  # defaults of monitor.heartbeat_s and monitor.sample_interval_s
LOOKS_PER_S = 1000.0  # of all ranks while they wait for rank 0; 20 of each rank before November 2026
IMPORT_S = 5.0  # from the start of a process to its process group, on an idle node with a warm cache

# Gloo and its store, counted with 8, 32 and 64 ranks (--gloo): a request per pair of ranks, of 154 + 8 N bytes.
ADDRESS_BYTES, ADDRESS_BYTES_PER_RANK = 154, 8
STORE_REQUESTS = 24e3  # 1/s: 46 minutes for 8,192 ranks (pytorch/gloo, pull request 407) are 67 million requests

# State and data.
STATE_BYTES = 12  # of each weight: itself and two moments
COPY_BANDWIDTH = 1e9 / 0.019  # byte/s: pause for a checkpoint of 1 GB on an H100 (docs/performance.md)
HASH_BANDWIDTH = 1.77e9  # byte/s of SHA-256 on one core; each rank verifies the checkpoint that it loads
ORDER_S = 266e-9  # to compute the place of one sample in the order, without a list

# Faults: 419 unexpected interruptions in 54 days on 16,384 GPUs ("The Llama 3 Herd of Models", arXiv 2407.21783).
FAULTS_PER_GPU_S = 419 / (54 * 86400 * 16384)
CHECKPOINT_EVERY_STEPS = 1000


@dataclass(frozen=True)
class Work:
    """What one rank does in a step; the numbers are those of ``hpctrain check``."""

    name: str
    parameters: float
    flop: float
    made_bytes: float
    kernels: float
    sample_bytes: float
    batch: int = 512
    precision: str = "bf16"

    @property
    def compute_s(self) -> float:
        """Time of computing in a step [s]."""
        return pass_time_s("h100", self.precision, self.batch, self.flop, self.made_bytes, self.kernels)


DEFAULT = Work("default VAE, 0.66 M weights", 663_166, 5.15e6, 2.76e6, 424.5, 32_000)
LARGE = Work("100 x larger, 66 M weights", 66.3e6, 5.15e8, 2.76e7, 424.5, 32_000)
"""Ten times as wide: a hundred times the weights and the products, ten times the tensors between layers."""


def all_reduce_s(num_bytes: float, gpus: int) -> float:
    """Return the time of a sum over all GPUs [s]: the faster of ring and double binary tree."""
    if gpus == 1:
        return 0.0
    nodes = math.ceil(gpus / PER_NODE)
    bandwidth = NVLINK_BANDWIDTH if nodes == 1 else NODE_BANDWIDTH
    moved_s = 2 * (gpus - 1) / gpus * num_bytes / bandwidth
    between = 2 * (nodes - 1)
    ring_s = BASE_S + (2 * (gpus - 1) - between) * RING_HOP_S + between * NODE_HOP_S + moved_s
    hops_s = 2 * ((min(gpus, PER_NODE) - 1) * TREE_HOP_S + math.log2(nodes) * NODE_HOP_S)
    return min(ring_s, BASE_S + hops_s + moved_s / TREE_BANDWIDTH)


def sums_s(work: Work, gpus: int) -> tuple[float, float]:
    """Return the time of all sums of a step, and the part of it that nothing hides [s]."""
    gradients = 4 * work.parameters
    buckets = max(1, math.ceil(gradients / BUCKET_BYTES))
    each = all_reduce_s(gradients / buckets, gpus)
    every = buckets * each
    return every, each + max(0.0, every - each - BACKWARD_SHARE * work.compute_s)


def step_s(work: Work, gpus: int) -> float:
    """Return the time of a step [s]; the sum of loss and stop flags runs beside the backward pass."""
    return work.compute_s + sums_s(work, gpus)[1]


def storm_s(gpus: int, per: int) -> float:
    """Return how long the metadata server is busy with the imports of all nodes or ranks [s]."""
    return gpus / per * (IMPORT_OPENS / CREATES + IMPORT_STATS / STATS)


def mesh(gpus: int, lazy: bool) -> tuple[float, float, float]:
    """Return requests to the store, bytes through rank 0, and connections of a rank, until the first sum of Gloo."""
    partners = math.log2(gpus) if lazy else gpus - 1
    size = ADDRESS_BYTES + (0 if lazy else ADDRESS_BYTES_PER_RANK * gpus)
    return gpus * (partners + 1), gpus * (partners + 1) * size, partners


def start_s(work: Work, gpus: int, lazy: bool = True, image: bool = True) -> float:
    """Return the time from the start of the processes to the first step [s]; with `image` libraries are on the node."""
    nodes = gpus / PER_NODE
    state = STATE_BYTES * work.parameters
    load = nodes * state / FS_BANDWIDTH + 2 * state / HASH_BANDWIDTH  # rank 0 verifies first, then the others
    run = gpus * (RUN_OPENS / CREATES + RUN_STATS / STATS)
    return IMPORT_S + (0 if image else storm_s(gpus, PER_NODE)) + mesh(gpus, lazy)[0] / STORE_REQUESTS + load + run


def lost_share(work: Work, gpus: int) -> float:
    """Return the share of the time that faults cost: starts and repeated steps."""
    every_s = CHECKPOINT_EVERY_STEPS * step_s(work, gpus)
    return 1 - 1 / expected_ratio(FAULTS_PER_GPU_S * gpus, start_s(work, gpus), every_s)


def rows(work: Work) -> Iterator[tuple[str, Callable[[int], float], str]]:
    """Yield title, function of the number of GPUs, and format of each row of the table."""
    state = STATE_BYTES * work.parameters
    rate = work.batch * work.sample_bytes
    yield "step: computing [ms]", lambda n: 1e3 * work.compute_s, ",.3g"
    yield "sums of gradients [ms]", lambda n: 1e3 * sums_s(work, n)[0], ",.2g"
    yield "... of these not hidden [ms]", lambda n: 1e3 * sums_s(work, n)[1], ",.2g"
    yield "agreement on a stop [messages]", lambda n: 0, ",.0f"
    yield "efficiency of a step [%]", lambda n: 100 * work.compute_s / step_s(work, n), ",.0f"
    yield "global batch [samples]", lambda n: n * work.batch, ",.0f"
    yield "reading, all nodes [GB/s]", lambda n: n * rate / step_s(work, n) / 1e9, ",.0f"
    yield "order of samples, a rank [ms a step]", lambda n: 1e3 * work.batch * ORDER_S, ",.2g"
    yield "checkpoint: pause of all [ms]", lambda n: 1e3 * state / COPY_BANDWIDTH, ",.2g"
    yield "... written by rank 0 in [s]", lambda n: state / ONE_WRITER, ",.2g"
    yield "... read by all nodes in [s]", lambda n: n / PER_NODE * state / FS_BANDWIDTH, ",.2g"
    yield "... verified by a rank in [s]", lambda n: state / HASH_BANDWIDTH, ",.2g"
    yield "imports, cache of a node shared [s of the server]", lambda n: storm_s(n, PER_NODE), ",.2g"
    yield "imports, nothing shared [s of the server]", lambda n: storm_s(n, 1), ",.2g"
    yield "run directory at the start [s of the server]", lambda n: n * (RUN_OPENS / CREATES), ",.2g"
    yield "waiting for rank 0 [looks/s]", lambda n: min(20.0 * n, LOOKS_PER_S), ",.0f"
    yield "... before [looks/s]", lambda n: 20.0 * n, ",.0f"
    yield "heartbeats and sensors [creates + renames/s]", beats_per_s, ",.0f"
    yield "Gloo: connections of a rank", lambda n: mesh(n, n > 256)[2], ",.0f"
    yield "Gloo: store busy [s]", lambda n: mesh(n, n > 256)[0] / STORE_REQUESTS, ",.2g"
    yield "... each with each: store busy [s]", lambda n: mesh(n, False)[0] / STORE_REQUESTS, ",.2g"
    yield "... each with each: through rank 0 [GB]", lambda n: mesh(n, False)[1] / 1e9, ",.2g"
    yield "start to first step, libraries on the node [s]", lambda n: start_s(work, n), ",.0f"
    yield "a fault each [h]", lambda n: 1 / (3600 * FAULTS_PER_GPU_S * n), ",.0f"
    yield "lost to faults [%]", lambda n: 100 * lost_share(work, n), ",.2g"


def beats_per_s(gpus: int) -> float:
    """Return how many files the heartbeats and the sensors of all ranks make and rename in a second."""
    return gpus * (BEAT_CREATES / BEAT_S + SAMPLE_CREATES / SAMPLE_S)


def table(work: Work) -> Iterator[str]:
    """Yield the lines of the table, in Markdown."""
    yield f"| {work.name}, {work.batch} on each GPU | " + " | ".join(f"{gpus:,} GPUs" for gpus in GPUS) + " |"
    yield "|---" * (len(GPUS) + 1) + "|"
    for title, value, form in rows(work):
        yield f"| {title} | " + " | ".join(format(float(f"{value(gpus):.3g}"), form) for gpus in GPUS) + " |"


def main() -> None:
    """Print the tables, or count what Gloo does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gloo", metavar="RANKS", help="numbers of ranks with which Gloo is counted, such as 8,32,64")
    options = parser.parse_args()
    if options.gloo:
        from benchmarks.scaling_gloo import count

        print("ranks  connections  requests    bytes  sockets")
        for ranks in map(int, options.gloo.split(",")):
            for lazy in (False, True):
                found = count(ranks, lazy)
                kind = "few" if lazy else "each with each"
                print(
                    f"{ranks:>5}  {kind:<14}{found['requests']:>6}{found['bytes']:>9,}{found['sockets']:>9}", flush=True
                )
        return
    for work in (DEFAULT, LARGE):
        print("\n".join(table(work)) + "\n")


if __name__ == "__main__":
    main()
