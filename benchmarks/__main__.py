"""What safety costs, in one table: ``python -m benchmarks`` (some ten minutes on two cores).

Each part can be run alone as ``python benchmarks/<part>.py``; docs/performance.md says how to read it.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

import torch

from benchmarks import checkpoint_stall, requeue_time, step_time, stop_agreement


def machine() -> str:
    """Name the machine in a line."""
    model = platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [
            line.partition(":")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
        ]
        model = names[0].strip() if names else model
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {gpu}; torch {torch.__version__}; load {load}"


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each measurement (default: 7)")
    rounds = parser.parse_args().rounds
    print(f"{machine()}\n\nUpdate against a hand-written loop, median of {rounds} rounds (least-largest)")
    print(step_time.table(rounds), flush=True)
    print("\nLoop held up by a checkpoint")
    print(checkpoint_stall.table(rounds=rounds), flush=True)
    print("\nAgreement on a stop, each update")
    print(stop_agreement.table(), flush=True)
    print("\nFrom the start of the ranks to the first new update, s")
    print(requeue_time.table(rounds), flush=True)


if __name__ == "__main__":
    main()
