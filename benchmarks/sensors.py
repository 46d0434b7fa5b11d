"""Measure the CPU time of one sample of the sensors: ``python benchmarks/sensors.py [--board FILE.txt]``."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hpctrain.monitor.board import unfolded
from hpctrain.monitor.ledger import Ledger
from hpctrain.monitor.pace import Governor
from hpctrain.monitor.sampler import Sampler
from hpctrain.monitor.sensors import Sensors
from hpctrain.rundir import RunDir

_INTERVAL_S = 5.0


def sample_cpu_s(root: Path, rounds: int) -> list[float]:
    """Return the CPU time of each sample of the machine that a folder describes [s]."""
    with tempfile.TemporaryDirectory() as folder:
        sampler = Sampler(Sensors(root), Governor(10.0), Ledger(RunDir(Path(folder)), 0, 1, "here"), _INTERVAL_S, int)
        sampler.sample()
        found = []
        for _ in range(rounds):
            began_s = time.thread_time()
            sampler.sample()
            found.append(time.thread_time() - began_s)
        return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--board", type=Path, metavar="FILE.txt", help="a recorded machine (default: this one)")
    arguments = parser.parse_args()
    root = Path("/") if arguments.board is None else unfolded(arguments.board.absolute())
    times_s = sample_cpu_s(root, arguments.rounds)
    median_s = statistics.median(times_s)
    print(
        f"a sample: {1e3 * median_s:.2f} ms of CPU ({1e3 * min(times_s):.2f}-{1e3 * max(times_s):.2f}); every "
        f"{_INTERVAL_S:g} s: {100 * median_s / _INTERVAL_S:.3f} % of one core"
    )


if __name__ == "__main__":
    main()
