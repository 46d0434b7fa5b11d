"""Measure the cost of safety and print one table: ``python -m benchmarks`` (five to ten minutes on two cores).

Each part also runs alone as ``python benchmarks/<part>.py``; docs/performance.md explains the results.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

import torch

from benchmarks import checkpoint_stall, requeue_time, step_time, stop_agreement


def machine() -> str:
    """Return a description of the machine in one line."""
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
    """Measure all parts and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each measurement (default: 7)")
    rounds = parser.parse_args().rounds
    print(machine())
    for title, lines in (
        (f"Step against a hand-written loop, median of {rounds} rounds (minimum-maximum)", step_time.table(rounds)),
        ("Pause of the loop for a checkpoint", checkpoint_stall.table(rounds=rounds)),
        ("Agreement on a stop, each step", stop_agreement.table()),
        ("From the start of the ranks to the first new step, s", requeue_time.table(rounds)),
    ):
        print(f"\n{title}", flush=True)
        for line in lines:
            print(line, flush=True)


if __name__ == "__main__":
    main()
