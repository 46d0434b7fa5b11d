"""How fast is training on the device, against what it could be at best?"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks import checkpoint_stall
from benchmarks.gpu.peers import PEERS
from benchmarks.gpu.rows import MEASURED, Row, check, compare, guarded, skip
from benchmarks.gpu.workload import NETWORKS, Size, open_run, precisions, prepare_run, synchronise
from benchmarks.ranks import python_path
from benchmarks.requeue_time import first_step
from benchmarks.step_time import bare_loop
from hpctrain.samples.protocols import Batch
from hpctrain.storage.repack import repack
from hpctrain.storage.target import Target
from hpctrain.train.arithmetic import AUTOCAST, set_float32_arithmetic
from hpctrain.train.loop import Boundary, read_batches
from hpctrain.train.run import Run

_OVERHEAD_GOAL = 1.01
_FEED_GOAL = 0.97
_STALL_GOAL = 1.2
_NO_START = NETWORKS["spectral_vae, convolutional"] | {"start": "random"}
"""A network whose first step waits for nothing but the trainer."""

_PRODUCT_SIZE = {"cuda": 8192, "cpu": 512}
_START = """
import sys, time
import h5py, numpy, torch
device = torch.device(sys.argv[1])
model = torch.nn.Sequential(torch.nn.Linear(512, 256), torch.nn.ReLU(), torch.nn.Linear(256, 512)).to(device)
with h5py.File(sys.argv[2]) as file:
    flux = torch.from_numpy(file["flux"][:32, :512]).to(device)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
model(flux).square().mean().backward()
optimizer.step()
print(float(next(model.parameters()).sum()))
"""
"""The least that a training script does from its start to its first step."""


def rows(device: torch.device, size: Size) -> Iterator[Row]:
    """Measure everything, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for precision in precisions(device):
            if precision != "tf32":  # it is fp32 for the default network, which has no convolutions
                yield from guarded(f"{precision}: throughput", _throughput, place, precision, device, size)
        yield from guarded("torch.compile", _compiled, place, device, size)
        yield from guarded("other networks", _networks, place, device, size)
        yield from guarded("checkpoint", _stall, place, device, size)
        yield from guarded("start", _start, place, device, size)


def _throughput(place: Path, precision: str, device: torch.device, size: Size) -> Iterator[Row]:
    """Time loops that alternate; the ratios are those within a round."""
    run = open_run(place, f"speed-{precision}", device, size, **_sections(precision, size))
    kept = _on_device(run)
    loops = {
        "ours, on the device": _ours(run, itertools.cycle(kept), size.steps),
        "ours, from HDF5": _ours(run, read_batches(run), size.steps),
        "by hand": bare_loop(run, kept, size.steps, fused=True),
    }
    if precision in ("fp32", "bf16"):
        compressed = _compressed(place, run)
        other = open_run(place, f"bitshuffle-{precision}", device, size, **_sections(precision, size, compressed))
        loops["ours, bitshuffle"] = _ours(other, read_batches(other), size.steps)
    busy = _Utilisation(run)
    times = _times(loops, run.device, size.rounds, busy)
    per_s = run.schedule.micro_batch * size.steps / statistics.median(times["ours, from HDF5"])
    yield from _ratios(precision, times)
    yield from _share_of_peak(precision, run, kept[0], per_s)
    if busy.mean is not None:
        what = f"{precision}: utilisation from HDF5 (NVML)"
        yield Row(what, f"{busy.mean:.0f} %", MEASURED, "", {"value": busy.mean})
    for name, peer in PEERS.items():
        yield from guarded(f"{precision}: {name}", _against, name, peer, precision, run, kept, size)


def _sections(precision: str, size: Size, path: Path | None = None) -> dict:
    train = {"precision": precision, "batch_size": size.batch_size}
    return {"train": train} if path is None else {"train": train, "data": {"files": [str(path)]}}


def _on_device(run: Run) -> list[Batch]:
    draw = np.random.default_rng(0)
    rows = [draw.choice(run.data.train_rows, run.schedule.micro_batch) for _ in range(8)]
    return [run.data.samples.read(one).to(run.device) for one in rows]


def _ours(run: Run, batches: Iterator[Batch], steps: int) -> Callable[[], None]:
    """Return our loop: steps and what comes between them, everything on."""
    boundary = Boundary(run)

    def loop() -> None:
        for _ in range(steps):
            result = run.update(run.progress.step, batches)
            run.progress.step = result.step
            boundary.pass_through(result)

    return loop


def _compressed(place: Path, run: Run) -> Path:
    """Return the run's data as bitshuffle-lz4, which several threads decode."""
    path = place / "bitshuffle.h5"
    if not path.exists():
        repack(run.profile.data.files, path, Target(layout="chunked", compression="bitshuffle"))
    return path


def _times(
    loops: dict[str, Callable[[], None]], device: torch.device, rounds: int, busy: _Utilisation | None = None
) -> dict[str, list[float]]:
    """Return the times of loops that alternate [s]; `busy` reads the utilisation during those that read HDF5."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(-2, rounds):  # two rounds to warm up
        names = list(loops)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            is_watched = busy is not None and name == "ours, from HDF5" and number >= 0
            synchronise(device)
            started = time.perf_counter()
            with busy if is_watched else contextlib.nullcontext():
                loops[name]()
                synchronise(device)
            if number >= 0:
                times[name].append(time.perf_counter() - started)
    return times


def _ratios(precision: str, times: dict[str, list[float]]) -> Iterator[Row]:
    def ratio(one: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))

    overhead = ratio("ours, on the device", "by hand")
    what = f"{precision}: a step of ours against one by hand, both on the device"
    yield compare(what, overhead, _OVERHEAD_GOAL, f"{overhead:.3f}")
    for name in ("ours, from HDF5", "ours, bitshuffle"):
        if name in times:
            share = ratio("ours, on the device", name)
            what = f"{precision}: throughput {name.removeprefix('ours, ')} against data on the device"
            yield compare(what, share, _FEED_GOAL, f"{share:.3f}", at_least=True)


def _share_of_peak(precision: str, run: Run, batch: Batch, per_s: float) -> Iterator[Row]:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        sums = run.model(run.prepare(batch), 0)
        (sums["loss_sum"] / sums["weight_sum"]).backward()
    run.optimizer.zero_grad()
    flop = counter.get_total_flops() / len(batch)
    peak = _peak_flop_per_s(precision, run.device)
    share = per_s * flop / peak
    numbers = {"spectra_per_s": per_s, "flop_per_spectrum": flop, "peak_flop_per_s": peak, "share": share}
    text = f"{per_s:,.0f} spectra/s, {share:.1%} of {peak / 1e12:.3g} TFLOP/s (a large product in the same run)"
    yield Row(f"{precision}: default network, batch {len(batch)}", text, MEASURED, "", numbers)


def _peak_flop_per_s(precision: str, device: torch.device) -> float:
    """Time a large matrix product of random numbers in this precision."""
    set_float32_arithmetic(precision)
    edge = _PRODUCT_SIZE[device.type]
    dtype = AUTOCAST.get(precision, torch.float32)
    one, other = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(2))
    times = _times({"product": lambda: torch.mm(one, other)}, device, 10)["product"]
    return 2 * edge**3 / statistics.median(times)


class _Utilisation:
    """Reads the utilisation of the GPU in a thread while the loop runs that it surrounds."""

    def __init__(self, run: Run) -> None:
        from hpctrain.train.watch import own_gpu

        self._gpu, _ = own_gpu(run.device)
        self._found: list[float] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def mean(self) -> float | None:
        return statistics.mean(self._found) if self._found else None

    def __enter__(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while self._gpu is not None and not self._stop.wait(0.05):
            value = self._gpu.read().get("gpu_utilisation_percent")
            if value is not None:
                self._found.append(value)


def _against(name: str, peer: Callable, precision: str, run: Run, kept: list[Batch], size: Size) -> Iterator[Row]:
    """Time a step of another trainer with the same network, batches and optimiser."""
    try:
        theirs = peer(run, kept, size.steps)
    except ImportError as error:
        yield skip(f"{precision}: a step of ours against {name}", f"not installed ({error.name})")
        return
    ours = _times({"ours": _ours(run, itertools.cycle(kept), size.steps)}, run.device, size.rounds)["ours"]
    ratio = statistics.median(ours) / size.steps / theirs
    text = f"{ratio:.3f} (theirs {1000 * theirs:.2f} ms)"
    yield Row(f"{precision}: a step of ours against {name}", text, MEASURED, "", {"value": ratio})


def _networks(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Measure the throughput of every network from HDF5."""
    for name in size.networks:
        for precision in precisions(device) if "convolutional" in name else precisions(device)[-1:]:
            sections = {**_sections(precision, size), "model": NETWORKS[name]}
            run = open_run(place, "network", device, size, **sections)
            steps = max(4, size.steps // 3)
            times = _times({name: _ours(run, read_batches(run), steps)}, run.device, 2)[name]
            per_s = run.schedule.micro_batch * steps / statistics.median(times)
            what = f"{name}, {precision}, from HDF5"
            yield Row(what, f"{per_s:,.0f} spectra/s", MEASURED, "", {"spectra_per_s": per_s})


def _compiled(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Compare a step with torch.compile and one without."""
    what = "bf16: a step with torch.compile against one without"
    if device.type == "cpu":
        yield skip(what, "looked at on a GPU only")
        return
    loops = {}
    for switch in (False, True):
        sections = _sections("bf16", size)
        sections["train"]["compile"] = switch
        run = open_run(place, "compiled", device, size, **sections)
        loops[switch] = _ours(run, itertools.cycle(_on_device(run)), size.steps)
    started = time.perf_counter()
    times = _times(loops, device, size.rounds)
    ratio = statistics.median(a / b for a, b in zip(times[True], times[False], strict=True))
    text = f"{ratio:.3f} (compiled and timed in {time.perf_counter() - started:.0f} s)"
    yield Row(what, text, MEASURED, "", {"value": ratio})


def _stall(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    found = checkpoint_stall.measure(size.stall_mb, size.rounds, place / "stall", device.type)
    ratio = statistics.median(a / b for a, b in zip(found["ours"], found["copy"], strict=True))
    slower = statistics.median(a / b for a, b in zip(found["work beside"], found["work"], strict=True))
    pause = 1000 * statistics.median(found["ours"])
    text = f"{ratio:.2f} ({pause:.0f} ms; work beside the writer {slower:.2f} times as long)"
    yield compare(f"pause for a checkpoint of {size.stall_mb} MB against its copy", ratio, _STALL_GOAL, text)


def _start(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Time processes from their start to their first step, ours and a bare one in turn."""
    run = prepare_run(place, "start", device, min(1000, size.num_spectra), 512, train={"batch_size": 32})
    if device.type == "cpu" and size.num_pixels < 512:
        yield skip("start to first step against a bare script", "only at full size")
        return
    ours, bare = [], []
    data = None
    for _ in range(size.starts + 1):
        ours.append(first_step(run, 1))
        data = data or str(next(place.glob("spectra-*-512.h5")))
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _START, device.type, data],
            env={**os.environ, "PYTHONPATH": python_path()},
            capture_output=True,
            text=True,
        )
        bare.append(time.perf_counter() - started)
        if done.returncode != 0:
            yield check("bare script", False, done.stderr.strip().splitlines()[-1])
            return
    # The first start of each fills the page cache.
    totals, bare = [laps["seconds"] for laps in ours[1:]], bare[1:]
    ratio = statistics.median(totals) / statistics.median(bare)
    laps = ", ".join(f"{name} {statistics.median(one.get(name, 0) for one in ours[1:]):.1f}" for name in ours[-1])
    text = f"{ratio:.2f} ({statistics.median(totals):.1f} s against {statistics.median(bare):.1f} s; {laps})"
    yield Row("start to first step against a bare script", text, MEASURED, "", {"value": ratio})
