"""Batches on their way to a GPU: the next one is copied while the network works on this one."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import fields

import torch

from hpctrain.spectra.batch import SpectraBatch


def on_device(batches: Generator[SpectraBatch, None, None], device: torch.device) -> Iterator[SpectraBatch]:
    """Yield the same batches on `device`.

    Parameters
    ----------
    batches : generator of SpectraBatch
        In page-locked memory, where the device is a GPU: only such copies overlap with computing.
    device : torch.device
        A GPU gets each batch through a stream of its own, one batch ahead; a CPU gets them as they are.

    Yields
    ------
    SpectraBatch
    """
    if device.type != "cuda":
        yield from batches
        return
    side = torch.cuda.Stream(device)
    ahead: tuple[SpectraBatch, torch.cuda.Event] | None = None
    with contextlib.closing(batches):
        for batch in batches:
            with torch.cuda.stream(side):
                # Torch keeps page-locked memory from being lent again until the copy out of it is done.
                moved = batch.to(device, non_blocking=True), side.record_event()
            if ahead is not None:
                yield _arrived(*ahead)
            ahead = moved
        if ahead is not None:
            yield _arrived(*ahead)


def _arrived(batch: SpectraBatch, copied: torch.cuda.Event) -> SpectraBatch:
    """Let the current stream, not the host, wait for the copy, and tie the batch's memory to that stream."""
    stream = torch.cuda.current_stream(batch.flux.device)
    stream.wait_event(copied)
    for item in fields(batch):
        tensor = getattr(batch, item.name)
        if tensor is not None:
            tensor.record_stream(stream)
    return batch
