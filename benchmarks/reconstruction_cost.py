"""What a network costs: weights, floating-point operations, time of an update, and memory of its training."""

from __future__ import annotations

import copy
import json
import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from hpctrain.kinds.spectra.batch import SpectraBatch
from hpctrain.rundir import RunDir

REPEATS = 5
BEFORE = "before: 23.3 M weights, 2,054 and 6,053 MFLOP; spender: 13.5 M weights, 1,900 MFLOP forward (DESI's grid)"
"""The convolutional default of earlier versions, and the network of Melchior et al. 2023, arXiv:2211.07890."""


def cost(trained: torch.nn.Module, batch: SpectraBatch, run: RunDir) -> str:
    """Return a paragraph on the cost of a network, measured on a batch of N spectra of L pixels.

    FLOPs are those of PyTorch's counter, which sees matrix products and convolutions, not interpolation. The time is
    the CPU time of a forward and backward pass, the median of a few.
    """
    model = copy.deepcopy(trained).train().requires_grad_()
    number, pixels = batch.flux.shape
    weights = sum(parameter.numel() for parameter in model.parameters())
    constants = sum(buffer.numel() for buffer in model.buffers())
    forward, both = (flops(model, batch, backward) / number / 1e6 for backward in (False, True))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        trained.describe(batch, 1)
    refined = counter.get_total_flops() / number / 1e6
    seconds = []
    for _ in range(REPEATS):
        start = time.process_time()
        model(batch)["loss_sum"].backward()
        seconds.append(time.process_time() - start)
    peak = max(peaks(run), default=float("nan"))
    return (
        f"cost at {pixels:,} pixels, {model.grid.num_pixels:,} rest pixels: {weights / 1e6:.2f} M weights and "
        f"{constants / 1e6:.2f} M constants; for a spectrum {forward:.1f} MFLOP forward, {refined:.1f} with one "
        f"refinement, {both:.1f} forward and backward; {1e3 * statistics.median(seconds):.0f} ms of CPU time for "
        f"forward and backward of {number} spectra; peak memory of the training {peak:.2f} GiB\n({BEFORE})"
    )


def flops(model: torch.nn.Module, batch: SpectraBatch, backward: bool) -> int:
    """Return the operations of the loss of a batch, with its gradients if asked for."""
    with FlopCounterMode(display=False) as counter:
        loss = model(batch)["loss_sum"]
        if backward:
            loss.backward()
    return counter.get_total_flops()


def peaks(run: RunDir) -> list[float]:
    """Return the peak memory [GiB] that the records of a run name."""
    records = (json.loads(line) for line in run.metrics.read_text().splitlines())
    return [record["memory_gib"] for record in records if record.get("memory_gib") is not None]
