"""Measure time and memory of status, list and report on a run with millions of records, compared with one read.

    python benchmarks/long_history.py [--records 2000000]

Each command runs in its own process. Memory is the peak less that of the same command on a run with a few records.
Times are CPU time. Ratios to a plain sequential read of metrics.jsonl can be compared between machines.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FEW = 100
NUM_READS = 10
READ = """
import sys
for _ in range(int(sys.argv[2])):
    with open(sys.argv[1], "rb") as stream:
        while stream.read(1 << 20):
            pass
"""
MEASURE = """
import os, resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def write_run(folder: Path, num_records: int) -> Path:
    """Write a run directory whose metrics.jsonl has `num_records` training records in the trainer's format."""
    run = folder / "runs" / "long" / f"20270115-080000-{num_records:07d}"
    (run / "logs").mkdir(parents=True)
    (run / "attempts").mkdir()
    (run / "profile.yaml").write_text("name: long\n")
    time_s = 1.8e9
    with open(run / "metrics.jsonl", "w", encoding="ascii") as stream:
        event = {"kind": "event", "step": 0, "time": time_s, "attempt": 1, "event": "started"}
        stream.write(json.dumps(event | {"total_steps": num_records, "world_size": 1}, separators=(",", ":")) + "\n")
        for step in range(1, num_records + 1):
            stream.write(
                f'{{"kind":"train","step":{step},"time":{time_s + step / 8:.3f},"attempt":1,"loss":{1 + 1 / step:.12g},'
                f'"chi2":{2 + 1 / step:.12g},"kl":18.25,"lr":0.000512345678,"grad_norm":{0.3 + step % 7 / 10:.12g},'
                f'"samples_seen":{step * 1024},"samples_per_s":8192.125,"epoch":{step / 180:.8g},"memory_gib":11.4}}\n'
            )
            if step % 10_000 == 0:
                head = f'{{"kind":"eval","step":{step},"time":{time_s + step / 8:.3f},"attempt":1'
                stream.write(head + ',"loss":1.1,"chi2":2.1}\n')
    return run


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command; return CPU time [s] and peak memory [MiB]."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *command], env=environment, capture_output=True, text=True, check=True
    )
    seconds, mib = map(float, done.stdout.split())
    return seconds, mib


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000, help="training records (default: 2,000,000)")
    num_records = parser.parse_args().records
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        long, short = write_run(Path(folder) / "long", num_records), write_run(Path(folder) / "short", FEW)
        metrics = long / "metrics.jsonl"
        plain_s, _ = measure([sys.executable, "-c", READ, str(metrics), str(NUM_READS)])
        bare_s, _ = measure([sys.executable, "-c", "pass"])
        read_s = max(plain_s - bare_s, 1e-3) / NUM_READS
        print(
            f"{num_records:,} records, {metrics.stat().st_size / 1e6:.0f} MB; read once in {read_s:.3f} s of CPU time"
        )
        print(f"{'command':<10}{'s more than for ' + str(FEW) + ' records':>30}{'x one read':>12}{'MiB more':>10}")
        for name in ("status", "list", "report"):
            numbers = []
            for run in (long, short):
                where = ["--runs-dir", str(run.parents[1])] if name == "list" else [str(run)]
                numbers.append(measure([sys.executable, "-m", "hpctrain", name, *where]))
            more_s, more_mib = (a - b for a, b in zip(*numbers, strict=True))
            print(f"{name:<10}{more_s:>30.2f}{more_s / read_s:>12.1f}{more_mib:>10.0f}")


if __name__ == "__main__":
    main()
