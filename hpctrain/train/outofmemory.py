"""What to do when the GPU has no memory left: an error in the user's terms instead of a traceback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from hpctrain.errors import Problem, ProfileError
from hpctrain.profile.load import load_profile
from hpctrain.profile.memory import divisors_from_above
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir

GIB = 2.0**30
_NOTABLE_GIB = 1.0
"""Memory of other processes that is worth a word; a context of CUDA alone takes half of it."""


@contextlib.contextmanager
def advice_if_out_of_memory(directory: RunDir, device: torch.device) -> Iterator[None]:
    """Turn torch's error that the GPU has no memory left into one that says which batch to try.

    Parameters
    ----------
    directory : RunDir
        Its profile holds the batch size, also where ``auto`` has found it.
    device : torch.device

    Raises
    ------
    ProfileError
        The memory of the GPU was not enough.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        held_gib = torch.cuda.memory_reserved(device) / GIB
        free, total = (value / GIB for value in torch.cuda.mem_get_info(device))
        profile = load_profile(directory.profile)
        name = torch.cuda.get_device_name(device)
        message = out_of_memory_message(profile, name, total, held_gib, total - free - held_gib)
        raise ProfileError(str(directory.profile), [Problem("train.batch_size", message)]) from error


def out_of_memory_message(profile: Profile, name: str, total_gib: float, held_gib: float, other_gib: float) -> str:
    """Return what happened and what helps.

    Parameters
    ----------
    profile : Profile
    name : str
        Name of the GPU.
    total_gib, held_gib, other_gib : float
        Memory of the GPU, what this rank held of it, and what others hold [GiB].
    """
    train, shape = profile.train, profile.update_shape
    found = f"{train.batch_size} does not fit into {name}: this rank held {held_gib:.1f} of {total_gib:.1f} GiB"
    if other_gib > _NOTABLE_GIB:
        found += f", and {other_gib:.1f} GiB belong to other processes (nvidia-smi shows them)"
    advice = []
    if shape.micro_batch is not None and (smaller := _half_or_less(shape.micro_batch)) is not None:
        accumulation = profile.accumulation * shape.micro_batch // smaller
        advice.append(f"batch_size {smaller} with accumulation {accumulation} gives the same global batch")
    if not train.gradient_checkpointing:
        advice.append("train.gradient_checkpointing: true needs less")
    if train.precision in ("fp32", "tf32"):
        advice.append("precision bf16 or fp16 needs less")
    return f"{found}; " + ("; ".join(advice) or "use a smaller model or a larger GPU")


def _half_or_less(micro_batch: int) -> int | None:
    """Return the largest divisor of a batch size below it."""
    return next((size for size in divisors_from_above(micro_batch) if size < micro_batch), None)
