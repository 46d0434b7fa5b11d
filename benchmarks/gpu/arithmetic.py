"""Is a step on the device correct? Each check compares two ways to do the same in this process."""

from __future__ import annotations

import contextlib
import copy
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu.rows import Row, check, guarded, skip, within
from benchmarks.gpu.workload import NETWORKS, Size, open_run, precisions, synchronise
from hpctrain.distributed.reduce import sum_over_ranks
from hpctrain.kinds.spectra.snr import signal_to_noise
from hpctrain.samples.device import on_device
from hpctrain.samples.protocols import Batch
from hpctrain.train.run import Run
from hpctrain.train.start import begin_anew
from hpctrain.train.step import StepResult

_OVERFLOWING_SCALE = 2.0**60
"""A loss scale at which every gradient overflows float16."""
_POISON = 1e30


def rows(device: torch.device, size: Size) -> Iterator[Row]:
    """Run all checks and yield their rows."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in size.networks:
            yield from guarded(f"{name}: CPU and device agree", _agrees_with_the_cpu, place, name, device, size)
        for precision in precisions(device):
            yield from guarded(f"{precision}: the same bits twice", _same_bits_twice, place, precision, device, size)
        yield from guarded("loss scale", _overflow, place, device, size)
        yield from guarded("gradient checkpointing", _checkpointing, place, device, size)
        yield from guarded("moving average of the weights", _moving_average, place, device, size)
        yield from guarded("torch.compile", _compiled, place, device, size)
        yield from guarded("ring and copy stream", _copy_stream, place, device, size)
        yield from guarded("group of one rank", _group_of_one, place, device, size)


def _run(place: Path, name: str, device: torch.device, size: Size, **sections: dict) -> Run:
    run = open_run(place, name, device, size, **sections)
    begin_anew(run)
    return run


def _batches(run: Run, count: int) -> list[Batch]:
    draw = np.random.default_rng(0)
    return [run.data.samples.read(draw.choice(run.data.train_rows, run.schedule.micro_batch)) for _ in range(count)]


def _train(run: Run, steps: int) -> list[StepResult]:
    """Do some steps with fixed batches and return their results."""
    batches = itertools.cycle(_batches(run, 4))
    results = []
    for _ in range(steps):
        results.append(run.update(run.progress.step, batches))
        run.progress.step += 1
    return results


def _losses(results: list[StepResult]) -> np.ndarray:
    return np.array([result.sums["loss_sum"] / result.sums["weight_sum"] for result in results])


def _weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the norm of the difference relative to the norm of what is expected; infinite if NaN are elsewhere."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    if not torch.equal(found.isnan(), expected.isnan()):
        return float("inf")
    found, expected = found.nan_to_num(), expected.nan_to_num()
    return float((found - expected).norm() / expected.norm().clamp(min=1e-300))


def _agrees_with_the_cpu(place: Path, name: str, device: torch.device, size: Size) -> Iterator[Row]:
    """Compare predictions and gradients of one network, in evaluation mode, in which nothing is random."""
    cpu = _run(place, "on-the-cpu", torch.device("cpu"), size, model=NETWORKS[name])
    batch = cpu.prepare(_batches(cpu, 1)[0])
    run = _run(place, "on-the-device", device, size, model=NETWORKS[name])
    run.model.load_state_dict(cpu.model.state_dict())
    for model in (cpu.model, run.model):
        model.eval()
    there = batch.to(run.device)
    with torch.no_grad():
        expected, found = cpu.model.predict(batch), run.model.predict(there)
    differences = {key: _difference(found[key], value) for key, value in expected.items() if value.is_floating_point()}
    ratios = [signal_to_noise(one.flux, one.ivar).cpu().nan_to_num(-1.0) for one in (there, batch)]
    same = torch.equal(*ratios)
    yield check(f"{name}: signal to noise on CPU and device", same, "the same bits" if same else "other bits")
    worst = max(differences, key=differences.get)
    what, text = f"{name}: predictions on CPU and device", f"differ by {differences[worst]:.1e} ({worst}), relative"
    yield within(what, differences[worst], 1e-3, text)
    _disturb(cpu.model)
    run.model.load_state_dict(cpu.model.state_dict())
    gradients = []
    for model, given in ((cpu.model, batch), (run.model, there)):
        _fixed_loss(model, given).backward()
        gradients.append(torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]))
    difference = _difference(gradients[1], gradients[0])
    yield within(f"{name}: gradient on CPU and device", difference, 1e-3, f"differs by {difference:.1e}, relative")


def _disturb(model: torch.nn.Module) -> None:
    """Move the weights away from a fitted start, where the gradient is a small difference of large numbers."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


def _fixed_loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Return a loss without random numbers, whose sequence differs between devices."""
    if hasattr(model, "describe"):  # the loss of the autoencoder draws latents
        _, reconstruction, covered = model.describe(batch, refinements=0)
        return (batch.ivar * covered * (batch.flux - reconstruction).square()).mean()
    sums = model(batch, 0)
    return sums["loss_sum"] / sums["weight_sum"]


def _same_bits_twice(place: Path, precision: str, device: torch.device, size: Size) -> Iterator[Row]:
    """Train twice from the same start."""
    found = []
    for _ in range(2):
        run = _run(place, f"twice-{precision}", device, size, train={"precision": precision, "batch_size": 32})
        results = _train(run, size.steps_compared)
        found.append((_weights(run), _losses(results)))
    same = _same(found[0][0], found[1][0]) and np.array_equal(found[0][1], found[1][1])
    text = f"loss {found[0][1][0]:.4f} to {found[0][1][-1]:.4f} in {size.steps_compared} steps"
    yield check(f"{precision}: two runs give the same bits", same and np.isfinite(found[0][1]).all(), text)


def _overflow(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Provoke an overflow of float16: the weights stay, the scale falls until steps succeed again."""
    what = "fp16: an overflow skips the step, and the scale recovers"
    if device.type == "cpu":
        yield skip(what, "fp16 needs a GPU")
        return
    run = _run(place, "overflow", device, size, train={"precision": "fp16", "batch_size": 32, "ema_decay": 0.9})
    run.loss_scale.value.fill_(_OVERFLOWING_SCALE)
    before, moments = _weights(run), [state["exp_avg"].clone() for state in run.optimizer.state.values()]
    first = _train(run, 1)[0]
    kept = _same(before, _weights(run)) and all(
        torch.equal(old, state["exp_avg"]) for old, state in zip(moments, run.optimizer.state.values(), strict=True)
    )
    results = _train(run, 64)
    skipped = 1 + sum(result.skipped for result in results)
    right = first.skipped and kept and not results[-1].skipped and not _same(before, _weights(run))
    right = right and bool(torch.isfinite(torch.cat([value.flatten() for value in _weights(run).values()])).all())
    text = f"{skipped} of 65 steps skipped, scale 2^{np.log2(_OVERFLOWING_SCALE):.0f} to {results[-1].loss_scale:g}"
    yield check(what, right, text)


def _checkpointing(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Train with and without recomputed activations."""
    found = []
    for switch in (False, True):
        train = {"batch_size": 32, "gradient_checkpointing": switch}
        run = _run(place, f"recompute-{switch}", device, size, train=train)
        _train(run, size.steps_compared)
        found.append(_weights(run))
    yield check("gradient checkpointing gives the same bits", _same(*found), f"{size.steps_compared} steps")


def _moving_average(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Compute the average again in float64 from the weights of every step."""
    decay = 0.9
    run = _run(place, "average", device, size, train={"batch_size": 32, "ema_decay": decay})
    expected = {name: value.double() for name, value in _weights(run).items()}
    for _ in range(size.steps_compared):
        _train(run, 1)
        for name, value in _weights(run).items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    worst = max(_difference(run.averaged[name], value) for name, value in expected.items() if name in run.averaged)
    text = f"differs by {worst:.1e} from float64, relative"
    yield within("moving average of the weights", worst, 1e-5, text)


def _compiled(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Train with and without torch.compile."""
    what = "torch.compile agrees with the network as written"
    if device.type == "cpu":
        yield skip(what, "takes minutes with a C++ compiler; looked at on a GPU only")
        return
    found, weights = [], []
    for switch in (False, True, True):
        train = {"batch_size": 32, "compile": switch}
        # The compiler draws other random numbers, so this network must draw none.
        run = _run(place, "compile", device, size, train=train, model={**NETWORKS["spectral_cnn"], "dropout": 0.0})
        found.append(_losses(_train(run, size.steps_compared)))
        weights.append(_weights(run))
    difference = float(np.abs(found[1] / found[0] - 1).max())
    yield within(what, difference, 1e-3, f"losses differ by {difference:.1e} at most, relative")
    yield check(
        "torch.compile: two runs give the same bits", _same(weights[1], weights[2]), f"{size.steps_compared} steps"
    )


def _copy_stream(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Read batches slowly on the device while the buffers that they came through are poisoned.

    Each batch is summed only after the device has been busy, so a buffer that was used again too early would change
    the sum. Between two batches the host fills page-locked memory of the same sizes with a poison.
    """
    run = _run(place, "stream", device, size, train={"batch_size": size.batch_size})
    samples, draw = run.data.samples, np.random.default_rng(1)
    requests = [draw.choice(run.data.train_rows, size.batch_size) for _ in range(4 * size.steps_compared)]
    expected = [_checksums(samples.read(request)) for request in requests]
    found = []
    is_gpu = device.type == "cuda"

    def host() -> Iterator[Batch]:
        for request in requests:
            yield samples.read(request, pin=is_gpu)
            _poison(size, is_gpu)

    for batch in on_device(host(), run.device):
        if is_gpu:
            torch.cuda._sleep(20_000_000)  # about 10 ms of a busy device
        found.append(_checksums(batch))
        del batch
    synchronise(run.device)
    wrong = sum(not torch.equal(one.cpu(), other) for one, other in zip(found, expected, strict=True))
    yield check("no batch is overwritten in flight", wrong == 0, f"{wrong} of {len(requests)} batches differ")


def _checksums(batch: Batch) -> torch.Tensor:
    """Return numbers that are exact on any device: sums of the bits of each row, as integers."""
    parts = [batch.flux.view(torch.int32), batch.ivar.view(torch.int32), batch.row[:, None]]
    return torch.stack([part.long().sum(dim=1) for part in parts])


def _poison(size: Size, pinned: bool) -> None:
    for dtype in (torch.float32, torch.int64):
        shape = (size.batch_size, size.num_pixels) if dtype == torch.float32 else (size.batch_size,)
        torch.full(shape, _POISON if dtype == torch.float32 else -7, dtype=dtype, pin_memory=pinned)


def _group_of_one(place: Path, device: torch.device, size: Size) -> Iterator[Row]:
    """Train as a rank of a group does, alone in it, against the plain network."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    plain = _run(place, "no-group", device, size, train={"batch_size": 32})
    _train(plain, size.steps_compared)
    grouped = _run(place, "group", device, size, train={"batch_size": 32})
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    dist.init_process_group(f"{device.type}:{backend}", store=store, rank=0, world_size=1)
    try:
        ids = [grouped.device.index] if device.type == "cuda" else None
        model = DistributedDataParallel(grouped.model, device_ids=ids, gradient_as_bucket_view=True)
        grouped.update = copy.copy(grouped.update)
        grouped.update._model = model
        _train(grouped, size.steps_compared)
        total = torch.arange(5.0, device=grouped.device)
        dist.all_reduce(total)
        sum_over_ranks(grouped.world, total)
        right = _same(_weights(plain), _weights(grouped)) and total.tolist() == [0, 1, 2, 3, 4]
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()
    yield check(
        f"{backend.upper()} group of one rank gives the same bits", right, f"{size.steps_compared} steps with DDP"
    )
