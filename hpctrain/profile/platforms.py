"""The devices that a profile can name, with the properties that decide whether a job fits."""

from __future__ import annotations

from dataclasses import dataclass

CUDA_CONTEXT_GIB = 0.7
"""GPU memory of a process beside its tensors: context, kernels, handles [GiB]; 0.67 on an H100 with torch 2.11."""


@dataclass(frozen=True)
class Platform:
    """One kind of device.

    Parameters
    ----------
    name : str
        Name for ``platform:`` in a profile.
    title : str
        Name that the vendor uses.
    memory_gib : float
        Memory that a process can use [GiB]: the nominal size less the driver's share.
    compute_capability : str
        CUDA architecture; empty for CPUs.
    has_fp16, has_bf16 : bool
        Whether the hardware is fast in this precision.
    is_unified : bool
        Whether device and host share one memory, which the operating system and the data then also use.
    batch_size, accumulation : tuple of int
        Rule of thumb for large networks (transformers, 256 x 256 images), lowest and highest.
    aliases : tuple of str
        Other common names.
    """

    name: str
    title: str
    memory_gib: float
    compute_capability: str
    has_fp16: bool = True
    has_bf16: bool = True
    is_unified: bool = False
    batch_size: tuple[int, int] = (64, 128)
    accumulation: tuple[int, int] = (2, 8)
    aliases: tuple[str, ...] = ()

    @property
    def is_gpu(self) -> bool:
        return bool(self.compute_capability)


_ALL = (
    # memory: the total that nvidia-smi shows, in GiB, less the part that the driver reserves
    Platform(
        "a100-40",
        "NVIDIA A100 40 GB",
        39.4,
        "8.0",
        accumulation=(4, 8),
        aliases=("a100", "a100-40gb", "a100-sxm4-40gb"),
    ),
    Platform(
        "a100-80", "NVIDIA A100 80 GB", 79.1, "8.0", batch_size=(128, 256), accumulation=(2, 4), aliases=("a100-80gb",)
    ),
    Platform(
        "h100", "NVIDIA H100 80 GB", 79.1, "9.0", batch_size=(128, 256), accumulation=(2, 4), aliases=("h100-80",)
    ),
    Platform("h200", "NVIDIA H200 141 GB", 139.8, "9.0", batch_size=(256, 512), accumulation=(1, 2)),
    Platform(
        "rtx-4090", "NVIDIA GeForce RTX 4090", 23.5, "8.9", batch_size=(32, 64), accumulation=(8, 16), aliases=("4090",)
    ),
    Platform(
        "a4000", "NVIDIA RTX A4000", 15.7, "8.6", batch_size=(16, 32), accumulation=(16, 32), aliases=("rtx-a4000",)
    ),
    Platform("l40s", "NVIDIA L40S 48 GB", 44.4, "8.9", accumulation=(4, 8)),
    Platform("l4", "NVIDIA L4 24 GB", 22.0, "8.9", batch_size=(32, 64), accumulation=(8, 16)),
    Platform("a10", "NVIDIA A10 24 GB", 22.0, "8.6", batch_size=(32, 64), accumulation=(8, 16), aliases=("a10g",)),
    Platform("v100-32", "NVIDIA V100 32 GB", 31.7, "7.0", has_bf16=False, batch_size=(32, 64), accumulation=(8, 16)),
    Platform(
        "v100",
        "NVIDIA V100 16 GB",
        15.8,
        "7.0",
        has_bf16=False,
        batch_size=(16, 32),
        accumulation=(16, 32),
        aliases=("v100-16",),
    ),
    Platform("t4", "NVIDIA T4 16 GB", 14.6, "7.5", has_bf16=False, batch_size=(16, 32), accumulation=(16, 32)),
    Platform(
        "agx-orin",
        "NVIDIA Jetson AGX Orin 64 GB",
        61.3,
        "8.7",
        is_unified=True,
        batch_size=(8, 16),
        accumulation=(16, 32),
        aliases=("orin", "agx-orin-64", "jetson", "jetson-agx-orin"),
    ),
    Platform(
        "agx-orin-32",
        "NVIDIA Jetson AGX Orin 32 GB",
        29.8,
        "8.7",
        is_unified=True,
        batch_size=(8, 16),
        accumulation=(16, 32),
    ),
    Platform(
        "cpu", "CPU, host memory", 0.0, "", has_fp16=False, is_unified=True, batch_size=(16, 64), accumulation=(1, 8)
    ),
)

PLATFORMS: dict[str, Platform] = {platform.name: platform for platform in _ALL}
"""Platform of each canonical name."""

_BY_ALIAS = {alias: platform for platform in _ALL for alias in platform.aliases}


def find_platform(name: str) -> Platform | None:
    """Return the platform of a name or alias, in any case; None for an unknown one."""
    key = name.lower().replace("_", "-")
    return PLATFORMS.get(key) or _BY_ALIAS.get(key)


def platform_names() -> list[str]:
    """Return every name and alias."""
    return [*PLATFORMS, *_BY_ALIAS]
