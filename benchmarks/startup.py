"""Measure the CPU time of interactive commands on a login node, compared with a bare Python on the same machine.

    python benchmarks/startup.py [--rounds 15]

Targets: at most 350 ms for ``hpc-submit --dry-run``, and at most 300 ms for ``hpctrain check`` without the estimate of
memory, which runs in its own process and is cached. The commands alternate, so that other load slows all alike. Ratios
can be compared between machines, milliseconds cannot.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PROFILE = str(REPOSITORY / "profiles" / "quickstart.yaml")
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import yaml, pydantic'": ["-c", "import yaml, pydantic"],
    "hpctrain check --no-memory": ["-m", "hpctrain.cli", "check", PROFILE, "--no-memory"],
    "hpctrain check (memory known)": ["-m", "hpctrain.cli", "check", PROFILE],
    "hpc-submit --dry-run": ["-m", "hpctrain.cli", "submit", PROFILE, "--dry-run", "--cluster", "slurm"],
    "python -c 'import torch'": ["-c", "import torch"],
}
TARGETS_MS = {"hpctrain check --no-memory": 300, "hpctrain check (memory known)": 300, "hpc-submit --dry-run": 350}


def cpu_time_ms(arguments: list[str], folder: str) -> float:
    """Run Python with `arguments` in `folder` and return user + system time [ms], children included."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    before = os.times()
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    after = os.times()
    if done.returncode != 0:
        raise SystemExit(f"{arguments}: exit code {done.returncode}\n{done.stderr}")
    used = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return 1000 * used


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="runs of each command (default: 15)")
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for arguments in COMMANDS.values():
            cpu_time_ms(arguments, folder)  # fills the byte code, the page cache and the cached estimate
        for _ in range(rounds):
            for name, arguments in COMMANDS.items():
                times[name].append(cpu_time_ms(arguments, folder))
    bare = statistics.median(times["python -c pass"])
    print(f"{'command':<36}{'median ms':>10}{'least':>8}{'x bare':>8}{'target':>8}")
    for name, samples in times.items():
        median = statistics.median(samples)
        target = TARGETS_MS.get(name)
        verdict = "" if target is None else f"{target:>8}  {'met' if median <= target else 'MISSED'}"
        print(f"{name:<36}{median:>10.0f}{min(samples):>8.0f}{median / bare:>8.1f}{verdict}")


if __name__ == "__main__":
    main()
