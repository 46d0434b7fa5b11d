"""Copy batches to a GPU: the next one while the network works on the current one."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

import torch

from hpctrain.samples.protocols import Batch


def on_device(batches: Generator[Batch, None, None], device: torch.device) -> Iterator[Batch]:
    """Yield the same batches on `device`.

    Parameters
    ----------
    batches : generator of Batch
        Batches; for a GPU they are in page-locked memory, because only such copies overlap with computing.
    device : torch.device
        Target. Batches for a GPU are copied in a separate stream, one batch ahead; for a CPU nothing is copied.

    Yields
    ------
    Batch
    """
    if device.type != "cuda":
        yield from batches
        return
    side = torch.cuda.Stream(device)
    ahead: tuple[Batch, torch.cuda.Event] | None = None
    with contextlib.closing(batches):
        for batch in batches:
            with torch.cuda.stream(side):
                # Torch does not reuse page-locked memory before the copy from it is done.
                moved = batch.to(device, non_blocking=True), side.record_event()
            if ahead is not None:
                yield _arrived(*ahead)
            ahead = moved
        if ahead is not None:
            yield _arrived(*ahead)


def _arrived(batch: Batch, copied: torch.cuda.Event) -> Batch:
    """Let the current stream, not the host, wait for the copy, and tie the batch's memory to that stream."""
    stream = torch.cuda.current_stream(batch.row.device)
    stream.wait_event(copied)
    for tensor in batch.everything():
        tensor.record_stream(stream)
    return batch
