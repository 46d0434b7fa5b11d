"""Is what hpctrain says of memory true: the estimate, the search for a batch size, the advice when it is too large?"""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.rows import MEASURED, Row, check, compare, guarded, skip
from benchmarks.gpu.workload import NETWORKS, Size, open_run, prepare_run, synchronise
from benchmarks.ranks import python_path
from hpctrain.errors import EXIT_FINISHED
from hpctrain.profile.memory import FRAGMENTATION, WORKSPACE_GIB
from hpctrain.rundir import RunDir
from hpctrain.train.memory import GIB, DataLook, measure_peak_bytes, measure_with
from hpctrain.train.run import Run

_AGREEMENT = 0.10
_LEFT_SHARE = 0.55
"""Share of the memory that the search for a batch size finds free; with less than half, a node counts as not fit."""
_LARGEST = 1 << 15


def rows(device: torch.device, size: Size) -> Iterator[Row]:
    """Run all checks and yield their rows."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if device.type == "cpu":
            yield from guarded("estimate", _counted, place, device, size)
            for what in ("context and workspace", "estimate against reserved memory", "batch_size: auto", "advice"):
                yield skip(what, "needs a GPU")
            return
        yield from guarded("context", _context, place, device, size)
        for name in size.networks:
            yield from guarded(f"{name}: estimate", _estimates, place, name, device, size)
        yield from guarded("batch_size: auto", _automatic, place, device, size)


def _context(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Measure what a process takes beside its tensors, once the kernels of a step are loaded."""
    run = open_run(place, "context", device, size, train={"batch_size": 8})
    _steps(run, 8)
    free, total = torch.cuda.mem_get_info(device)
    beside = (total - free - torch.cuda.memory_reserved(device)) / GIB
    text = f"{beside:.2f} GiB (of {total / GIB:.1f} GiB that torch sees; other processes included)"
    yield Row("memory of the process beside its tensors", text, MEASURED, "", {"gib": beside, "total_gib": total / GIB})


def _steps(run: Run, batch_size: int, count: int = 3) -> None:
    draw = np.random.default_rng(0)
    rows = np.resize(draw.permutation(run.data.train_rows), batch_size)
    for step in range(count):
        result = run.update(step, iter([run.data.samples.read(rows)] * run.schedule.accumulation(1)))
    assert np.isfinite(result.gradient_norm)
    synchronise(run.device)


def _estimates(place: Path, name: str, device: torch.device, size: Size) -> Iterator[Row]:
    """Compare the estimate with what the allocator reserves, over precisions and batch sizes."""
    ratios = []
    for precision in ("fp32", "bf16"):
        need = None
        for batch_size in size.memory_batches:
            train = {"precision": precision, "batch_size": batch_size}
            run = open_run(place, "estimate", device, size, train=train, model=NETWORKS[name])
            _empty(device)
            _steps(run, batch_size)
            allocated, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
            need = need or measure_with(run.profile, DataLook(run.data.facts, "the data", section=run.data.section))
            counted = max(need.floor_gib, need.fixed_gib + need.per_sample_gib * batch_size)
            estimate = FRAGMENTATION * counted + WORKSPACE_GIB
            ratios.append(estimate * GIB / reserved)
            text = (
                f"counted {counted:.3f}, allocated {allocated / GIB:.3f}, reserved {reserved / GIB:.3f}, "
                f"estimate {estimate:.3f} GiB"
            )
            yield Row(f"{name}, {precision}, batch {batch_size}", text)
            del run
    worst = max(ratios, key=lambda ratio: abs(ratio - 1))
    text = f"{min(ratios):.2f} to {max(ratios):.2f} times over {len(ratios)} precisions and batch sizes"
    yield compare(f"{name}: estimate against reserved memory", abs(worst - 1), _AGREEMENT, text)


def _empty(device: torch.device) -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)


def _counted(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Count on the CPU what a step takes; there is no allocator to compare it with."""
    for name in size.networks:
        run = open_run(place, "counted", device, size, model=NETWORKS[name])
        peak, num_parameters = measure_peak_bytes(run.profile, run.data.facts, size.batch_size, run.data.section)
        text = f"{peak / GIB:.3f} GiB at batch {size.batch_size}, {num_parameters:,} weights"
        yield check(f"{name}: counted memory", peak > 16 * num_parameters, text)


def _automatic(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Leave little memory free; ``auto`` must find a size that trains, and four times as much must not fit."""
    _empty(device)
    free, total = torch.cuda.mem_get_info(device)
    left = _LEFT_SHARE * total
    ballast = torch.empty(int(free - left), dtype=torch.uint8, device=device)
    train = {"batch_size": "auto", "global_batch": _LARGEST, "max_steps": 3, "warmup_steps": 1, "ema_decay": 0.9}
    model = NETWORKS["spectral_vae, convolutional"]
    run = prepare_run(place, "auto", device, size.num_spectra, size.num_pixels, train=train, model=model)
    code, text = _attempt(run)
    found = [record for record in run.read_metrics("event") if record.get("event") == "batch_size"]
    batch_size = found[0]["batch_size"] if found else 0
    what = f"batch_size: auto, {left / GIB:.1f} GiB free"
    ended = f"found {batch_size}, exit code {code}" if found else text
    yield check(what, code == EXIT_FINISHED and 0 < batch_size < _LARGEST, ended)
    too_large = {**train, "batch_size": 4 * batch_size, "global_batch": None}
    run = prepare_run(place, "too-large", device, size.num_spectra, size.num_pixels, train=too_large, model=model)
    code, text = _attempt(run)
    del ballast
    _empty(device)
    advises = bool(re.search(r"train\.batch_size: \d+ does not fit", text)) and "Traceback" not in text
    yield check("four times as large: an error with advice", code == 2 and advises, text.replace("\n", " ")[-300:])


def _attempt(run: RunDir) -> tuple[int, str]:
    """Run one rank; return its exit code and the end of what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "hpctrain.train", str(run.path)],
        env={**os.environ, "PYTHONPATH": python_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout[-1500:]
