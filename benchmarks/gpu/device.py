"""What the device is: its sensors, its energy, and the latency of one spectrum."""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu.rows import MEASURED, Row, check, compare, guarded, skip
from benchmarks.gpu.workload import Size, open_run, synchronise
from hpctrain.monitor.energy import EnergyMeter
from hpctrain.monitor.nvml import find_gpu
from hpctrain.samples.protocols import Batch

_LATENCY_GOAL_MS = 1.0
_ENERGY_AGREEMENT = 0.05
_SETTLE_S, _LOAD_S = 2.0, 6.0
"""Time under load before and during the comparison of energies [s]."""
_READ_EVERY_S = 0.1
_ORIN = {"name": "Jetson AGX Orin", "fp32_tflop_per_s": 5.3, "memory_gb_per_s": 204.8, "limit_ms": 5.0}
"""NVIDIA's data sheet (2048 cores at 1.3 GHz); the limit is the project's own."""


def rows(device: torch.device, size: Size) -> Iterator[Row]:
    """Look at the device and yield the rows."""
    yield from guarded("sensors", _sensors, device)
    with tempfile.TemporaryDirectory() as folder:
        yield from guarded("latency", _latency, Path(folder), device, size)
    yield from _runtimes()


def _sensors(device: torch.device) -> Iterator[Row]:
    """Read every sensor, and compare the sum of power readings with the counter in the hardware."""
    if device.type == "cpu":
        yield skip("sensors and energy of the GPU", "needs a GPU")
        return
    gpu, why_not = find_gpu(str(torch.cuda.get_device_properties(device).uuid))
    if gpu is None:
        yield check("NVML finds the GPU by its UUID", False, why_not)
        return
    values = gpu.read()
    absent = ", ".join(gpu.absent) or "none"
    text = ", ".join(f"{name.removeprefix('gpu_')} {value:g}" for name, value in values.items())
    yield check("NVML's sensors", "gpu_power_w" in values, f"{text}; absent: {absent}")
    meter, product = EnergyMeter(longest_gap_s=1.0), torch.randn(4096, 4096, device=device)
    for _ in _loaded(product, _SETTLE_S):  # the driver's power is a mean over about a second
        pass
    started_j, started = gpu.energy_j(), time.monotonic()
    for now in _loaded(product, _LOAD_S):
        meter.add_power("gpu", now, gpu.read().get("gpu_power_w"))
    counted = None if started_j is None else gpu.energy_j() - started_j
    if counted is None:
        yield skip("energy from power readings against the counter", "this GPU has no counter")
        return
    ratio = meter.total_j / counted
    text = f"{ratio:.3f} ({counted:.0f} J in {time.monotonic() - started:.1f} s under load)"
    yield compare("energy from power readings against the counter", abs(ratio - 1), _ENERGY_AGREEMENT, text)


def _loaded(product: torch.Tensor, seconds: float) -> Iterator[float]:
    """Keep the GPU busy for a while, and yield the time every now and then."""
    started = time.monotonic()
    while (now := time.monotonic()) - started < seconds:
        yield now
        while time.monotonic() < now + _READ_EVERY_S:
            torch.mm(product, product)
            synchronise(product.device)


def _latency(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Time the prediction of one spectrum: the network as written, and replayed as a CUDA graph."""
    run = open_run(place, "latency", device, size, train={"batch_size": 8})
    run.model.eval()
    batch = run.prepare(run.data.samples.read(run.data.train_rows[:1]).to(run.device))
    with torch.no_grad():
        plain_ms = _milliseconds(lambda: run.model.predict(batch), run.device)
        what = "latency of one spectrum, the network as written"
        yield Row(what, f"{plain_ms:.2f} ms", MEASURED, "", {"ms": plain_ms})
        what = "latency of one spectrum, as a CUDA graph"
        if device.type == "cpu":
            yield skip(what, "needs a GPU")
        else:
            graph_ms = _replayed_ms(run.model, batch)
            yield compare(what, graph_ms, _LATENCY_GOAL_MS, f"{graph_ms:.3f} ms")
    yield from _on_an_orin(run.model, batch)


def _milliseconds(call, device: torch.device, count: int = 50) -> float:
    times = []
    for _ in range(count):
        synchronise(device)
        started = time.perf_counter()
        call()
        synchronise(device)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[count // 5 :])


def _replayed_ms(model: torch.nn.Module, batch: Batch) -> float:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries set themselves up outside of the capture
        for _ in range(3):
            model.predict(batch)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        model.predict(batch)
    return _milliseconds(graph.replay, torch.device("cuda"))


def _on_an_orin(model: torch.nn.Module, batch: Batch) -> Iterator[Row]:
    """Compute what one spectrum would need on an Orin, from its arithmetic and the memory that it must read."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.predict(batch)
    flop = counter.get_total_flops()
    weights = 4 * sum(value.numel() for value in (*model.parameters(), *model.buffers()))
    compute_ms = 1000 * flop / (_ORIN["fp32_tflop_per_s"] * 1e12)
    memory_ms = 1000 * weights / (_ORIN["memory_gb_per_s"] * 1e9)
    text = (
        f"{flop / 1e6:.1f} MFLOP take {compute_ms:.3f} ms and {weights / 1e6:.1f} MB of weights {memory_ms:.3f} ms "
        f"at the data sheet's rates; {_ORIN['limit_ms']:g} ms leave a factor of "
        f"{_ORIN['limit_ms'] / max(compute_ms, memory_ms):.0f} for everything else"
    )
    yield Row(f"one spectrum on a {_ORIN['name']}, by arithmetic", text)


def _runtimes() -> Iterator[Row]:
    """Report which runtimes for exported models are there; ``benchmarks/edge.py`` times them."""
    what = "ONNX Runtime on CUDA or TensorRT"
    if importlib.util.find_spec("onnxruntime") is None:
        yield skip(what, "onnxruntime is not installed")
        return
    import onnxruntime

    there = [name for name in onnxruntime.get_available_providers() if not name.startswith(("CPU", "Azure"))]
    if not there:
        yield skip(what, f"onnxruntime {onnxruntime.__version__} here has no provider for a GPU")
        return
    yield Row(what, ", ".join(there) + " there; time a bundle with: python benchmarks/edge.py", MEASURED)
