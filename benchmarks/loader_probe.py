"""Measure other costs of a loader in a separate process: time to the first batch, time to resume, and memory."""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.loader_peers import PEERS, Factory

_LIMIT_S = 1.0
_MIB = 2**20
_FAR_EPOCH = 120_000
"""Epoch in which our own readers resume; others would have to iterate to it."""


def probe(make: Factory, name: str, middle: int) -> None:
    """Print as JSON: time of opening and first batch [ms], the same in the middle of an epoch [ms], memory [MiB]."""
    if name in PEERS:
        importlib.import_module(name)
    before = _private_bytes()
    with _Watch() as watch:
        started_s = time.perf_counter()
        reader = make()
        next(iter(reader(0)))
        first_s = time.perf_counter() - started_s
        started_s = time.perf_counter()
        for _ in reader(1):
            if time.perf_counter() - started_s > _LIMIT_S:
                break
    state = reader.state_at(middle) if reader.state_at else None
    started_s = time.perf_counter()
    next(iter(make()(_FAR_EPOCH if "hpctrain" in name else 0, middle, state)))
    resume_s = time.perf_counter() - started_s
    found = {
        "first_ms": 1e3 * first_s,
        "resume_ms": 1e3 * resume_s,
        "memory_mib": (watch.peak_bytes - before) / _MIB,
        "resumes": reader.resumes,
    }
    print(json.dumps(found), flush=True)
    os._exit(0)  # some loaders leave threads that never end


class _Watch:
    """Sample the memory of this process and its children."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_done.wait(0.01):
            self.peak_bytes = max(self.peak_bytes, _private_bytes())


def _private_bytes() -> int:
    """Return the memory of this process and its children, without file pages, which belong to the page cache."""
    total = 0
    for process in ["self", *_children()]:
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:  # the process has ended
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))
    return total


def _children() -> list[str]:
    found: list[str] = []
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            found += task.read_text().split()
        except OSError:  # that thread has ended
            continue
    return found


def print_probes(names: Sequence[str], folder: Path, num_spectra: int) -> None:
    """Print the medians of three new processes for each way to read."""
    print(f"\n{'reader':52s} {'open + first batch ms':>22s} {'open + resume ms':>17s} {'memory MiB':>11s}")
    script = Path(__file__).with_name("loader.py")
    for name in names:
        command = [sys.executable, str(script), "--folder", str(folder), "--num-spectra", str(num_spectra)]
        found = []
        for _ in range(3):
            done = subprocess.run([*command, "--probe", name], capture_output=True, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith('{"first_ms"')]
            if not lines:
                print(f"{name:52s} failed: {done.stderr.strip().splitlines()[-1:]}")
                break
            found.append(json.loads(lines[-1]))
        else:
            first, resume, memory = (
                statistics.median(one[key] for one in found) for key in ("first_ms", "resume_ms", "memory_mib")
            )
            by = "" if found[0]["resumes"] else "*"
            print(f"{name:52s} {first:22.1f} {resume:16.1f}{by or ' '} {memory:11.0f}", flush=True)
    print("* cannot skip batches, only read them again")
