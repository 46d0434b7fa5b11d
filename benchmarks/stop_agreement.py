"""Measure the cost per step of the agreement of all ranks on a stop.

    python benchmarks/stop_agreement.py [--ranks 2] [--calls 2000]

The trainer reduces the sums of a step (5 numbers) over all ranks in any case, for the logged loss; the agreement adds
two. The benchmark alternately times the building and reducing of the vector without and with the two flags, between
processes on this machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ranks import run_ranks

_CALLS_A_ROUND = 20


def measure(calls: int) -> dict[str, list[float]]:
    """Return the time of one call of each kind in each round [µs]; runs as one rank."""
    import torch
    import torch.distributed as dist

    from hpctrain.distributed.reduce import sum_over_ranks
    from hpctrain.distributed.stop import StopRequest
    from hpctrain.distributed.world import World

    torch.set_num_threads(1)
    world = World.from_environment()
    dist.init_process_group("gloo")
    stop = StopRequest(deadline_s=time.time() + 1e6, lead_s=180.0)
    sums, no_flags = torch.ones(5, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)

    def without() -> None:
        sum_over_ranks(world, sums.clone())

    def agreed() -> None:
        flags = stop.flags()
        two = torch.tensor(flags, dtype=torch.float64) if any(flags) else no_flags
        sum_over_ranks(world, torch.cat([sums, two]))

    def asked() -> None:
        stop.flags()

    found: dict[str, list[float]] = {"without": [], "with": [], "host only": []}
    # Use many short rounds, because interruptions by the scheduler last longer than a call.
    for number in range(-1, calls // _CALLS_A_ROUND):
        for name, call in zip(found, (without, agreed, asked), strict=True):
            started = time.perf_counter()
            for _ in range(_CALLS_A_ROUND):
                call()
            if number >= 0:
                found[name].append(1e6 * (time.perf_counter() - started) / _CALLS_A_ROUND)
    return found


def table(ranks: int = 2, calls: int = 10_000) -> Iterator[str]:
    """Measure and yield the lines of the table."""
    found = run_ranks([__file__, "--rank", "--calls", str(calls)], ranks)
    more = statistics.median(a - b for a, b in zip(found["with"], found["without"], strict=True))
    middle = {name: statistics.median(values) for name, values in found.items()}
    yield (
        f"{'sums over ' + str(ranks) + ' ranks':<20}{'without us':>12}{'with flags us':>15}{'difference us':>15}"
        f"{'of it looking us':>18}"
    )
    yield (
        f"{'Gloo, this machine':<20}{middle['without']:>12.0f}{middle['with']:>15.0f}{more:>15.1f}"
        f"{middle['host only']:>18.2f}"
    )


def main() -> None:
    """Print the table, or measure as one rank if this program has started itself as a rank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.rank:
        for line in table(args.ranks, args.calls):
            print(line, flush=True)
        return
    print(json.dumps(measure(args.calls)), flush=True)
    from hpctrain.distributed.group import leave

    leave(0)


if __name__ == "__main__":
    main()
