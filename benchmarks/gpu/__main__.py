"""Prove hpctrain on a GPU: ``make gpu``, or ``python -m benchmarks.gpu`` with the Python and torch that are there.

It takes at most eight minutes on one GPU and needs nothing but the package's own dependencies: it simulates its data
and uses no network and no Slurm. Exit code 0: all is correct and meets its goals; 1: the last lines list what does not.

``--device cpu`` runs the parts that a CPU can do. ``--size tiny`` only tries the code: its speeds mean nothing, so no
goal of speed is judged.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.__main__ import machine
from benchmarks.gpu import arithmetic, device, exactness, memory, speed
from benchmarks.gpu.rows import MEASURED, MISSED, WRONG, Row, table
from benchmarks.gpu.workload import SIZES, Size
from benchmarks.ranks import REPOSITORY, python_path

PARTS: dict[str, Callable[[torch.device, Size], Iterator[Row]]] = {
    "arithmetic": arithmetic.rows,
    "exactness": exactness.rows,
    "speed": speed.rows,
    "device": device.rows,
    "memory": memory.rows,
}
"""The parts in their order."""

TOGETHER = ("arithmetic", "exactness")
"""Parts that time nothing, and run side by side."""


def main() -> int:
    """Run the parts in processes of their own, so that a crash of one is a row of the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=8.0, help="limit of the whole [min] (default: 8)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no GPU here; --device cpu runs what a CPU can do", file=sys.stderr)
        return 2
    if args.part:
        return _run_part(args.part, args.device, SIZES[args.size])
    started = time.monotonic()
    if not args.json:
        print(machine(), flush=True)
    found: dict[str, list[Row]] = {}
    for group in _groups(args.only):
        left_s = max(1.0, 60 * args.minutes - (time.monotonic() - started))
        threads = [threading.Thread(target=_collect, args=(part, args, left_s, found)) for part in group]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not args.json:
            for part in group:
                print("\n" + table(part, found[part]), flush=True)
    bad = [(part, row) for part, rows in found.items() for row in rows if row.is_bad]
    seconds = time.monotonic() - started
    if args.json:
        shown = {part: [dataclasses.asdict(row) for row in rows] for part, rows in found.items()}
        print(json.dumps({"machine": machine(), "seconds": round(seconds, 1), "parts": shown}, indent=2))
    else:
        print(f"\n{seconds:.0f} s. " + ("All is correct and meets its goals." if not bad else "Not good:"))
        for part, row in bad:
            print(f"  {row.verdict:<7} {part}: {row.what}: {row.found}" + (f" (goal {row.goal})" if row.goal else ""))
    return 1 if bad else 0


def _groups(parts: list[str]) -> Iterator[list[str]]:
    if together := [part for part in TOGETHER if part in parts]:
        yield together
    yield from ([part] for part in PARTS if part in parts and part not in TOGETHER)


def _run_part(part: str, device_name: str, size: Size) -> int:
    """Run a part in this process, and print each row as a line."""
    chosen = torch.device("cuda", 0) if device_name == "cuda" else torch.device("cpu")
    for row in PARTS[part](chosen, size):
        print(row.line(), flush=True)
    sys.stdout.flush()
    os._exit(0)  # heartbeats and watchdogs of the runs are threads of this process


def _collect(part: str, args: argparse.Namespace, limit_s: float, found: dict[str, list[Row]]) -> None:
    """Run a part as a process and keep its rows, also those before a crash or the end of the time."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", part, "--device", args.device, "--size", args.size]
    environment = {**os.environ, "PYTHONPATH": python_path(), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    fault = ""
    try:
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=limit_s)
        output = done.stdout
        if done.returncode != 0:
            fault = f"exit code {done.returncode}: {' | '.join(done.stderr.strip().splitlines()[-4:])}"
    except subprocess.TimeoutExpired as error:
        output, fault = (error.stdout or b"").decode(), f"not done within {limit_s:.0f} s; see --minutes"
    rows = [_judged(Row.read(line), args.size) for line in output.splitlines() if line.startswith('{"what"')]
    found[part] = [*rows, Row(f"the part '{part}'", fault, WRONG)] if fault else rows


def _judged(row: Row, size: str) -> Row:
    """Judge no speed at tiny size, where a step is all overhead."""
    return dataclasses.replace(row, verdict=MEASURED) if size == "tiny" and row.verdict == MISSED else row


if __name__ == "__main__":
    sys.exit(main())
