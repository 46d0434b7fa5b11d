"""The machines of managed clouds that profiles can name: GPUs, cores, memory, as their owners publish them.

Hardware alone: prices differ by account and change, so they belong to the site (``prices``).

References
----------
Amazon EC2 instance types and SageMaker's list of ML instances; Google Cloud, GPU machine types; Azure, GPU accelerated
virtual machine sizes (NC, ND, NV families); as of 2026.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Instance:
    """One type of machine.

    Parameters
    ----------
    cloud : str
        ``sagemaker``, ``vertex`` or ``azureml``.
    name : str
        As the cloud names it.
    platform : str
        Name of its GPUs in ``hpctrain platforms``, or ``cpu``.
    gpus, vcpus : int
        Vcpus are hardware threads, mostly two per core.
    memory_gib : float
        Host memory [GiB].
    accelerator : str
        How Vertex AI names the GPUs that are attached to it; empty elsewhere.
    """

    cloud: str
    name: str
    platform: str
    gpus: int
    vcpus: int
    memory_gib: float
    accelerator: str = ""


def _family(
    cloud: str, platform: str, rows: Iterable[tuple[str, int, int, float]], accelerator: str = ""
) -> list[Instance]:
    return [Instance(cloud, name, platform, gpus, cpus, gib, accelerator) for name, gpus, cpus, gib in rows]


def _sizes(stem: str, sizes: Iterable[tuple[str, int, int, float]]) -> list[tuple[str, int, int, float]]:
    return [(f"{stem}.{size}", gpus, cpus, gib) for size, gpus, cpus, gib in sizes]


_SMALL = [("xlarge", 1, 4, 16), ("2xlarge", 1, 8, 32), ("4xlarge", 1, 16, 64), ("8xlarge", 1, 32, 128)]
_G5 = [*_SMALL, ("12xlarge", 4, 48, 192), ("16xlarge", 1, 64, 256), ("24xlarge", 4, 96, 384), ("48xlarge", 8, 192, 768)]
_G6E = [(size, gpus, cpus, 2 * gib) for size, gpus, cpus, gib in _G5]
_G4DN = [*_SMALL, ("12xlarge", 4, 48, 192), ("16xlarge", 1, 64, 256)]
_CPU = [("xlarge", 0, 4), ("2xlarge", 0, 8), ("4xlarge", 0, 16), ("9xlarge", 0, 36), ("18xlarge", 0, 72)]
_P3 = [("2xlarge", 1, 8, 61), ("8xlarge", 4, 32, 244), ("16xlarge", 8, 64, 488)]
_M5 = [("xlarge", 0, 4), ("2xlarge", 0, 8), ("4xlarge", 0, 16), ("12xlarge", 0, 48), ("24xlarge", 0, 96)]

_SAGEMAKER = [
    *_family("sagemaker", "t4", _sizes("ml.g4dn", _G4DN)),
    *_family("sagemaker", "a10", _sizes("ml.g5", _G5)),
    *_family("sagemaker", "l4", _sizes("ml.g6", _G5)),
    *_family("sagemaker", "l40s", _sizes("ml.g6e", _G6E)),
    *_family("sagemaker", "v100", _sizes("ml.p3", _P3)),
    *_family("sagemaker", "v100-32", [("ml.p3dn.24xlarge", 8, 96, 768)]),
    *_family("sagemaker", "a100-40", [("ml.p4d.24xlarge", 8, 96, 1152)]),
    *_family("sagemaker", "a100-80", [("ml.p4de.24xlarge", 8, 96, 1152)]),
    *_family("sagemaker", "h100", [("ml.p5.4xlarge", 1, 16, 256), ("ml.p5.48xlarge", 8, 192, 2048)]),
    *_family("sagemaker", "h200", [("ml.p5e.48xlarge", 8, 192, 2048), ("ml.p5en.48xlarge", 8, 192, 2048)]),
    *_family("sagemaker", "cpu", [(f"ml.c5.{size}", gpus, cpus, 2.0 * cpus) for size, gpus, cpus in _CPU]),
    *_family("sagemaker", "cpu", [(f"ml.m5.{size}", gpus, cpus, 4.0 * cpus) for size, gpus, cpus in _M5]),
]
_A2 = [("1g", 1, 12, 85), ("2g", 2, 24, 170), ("4g", 4, 48, 340), ("8g", 8, 96, 680)]
_A2_ULTRA = [("1g", 1, 12, 170), ("2g", 2, 24, 340), ("4g", 4, 48, 680), ("8g", 8, 96, 1360)]
_A3 = [("1g", 1, 26, 234), ("2g", 2, 52, 468), ("4g", 4, 104, 936), ("8g", 8, 208, 1872)]
_G2 = [("4", 1, 4, 16), ("8", 1, 8, 32), ("12", 1, 12, 48), ("16", 1, 16, 64), ("32", 1, 32, 128)]
_G2_MORE = [("24", 2, 24, 96), ("48", 4, 48, 192), ("96", 8, 96, 384)]
_VERTEX = [
    *_family("vertex", "a100-40", [(f"a2-highgpu-{n}", g, c, m) for n, g, c, m in _A2], "NVIDIA_TESLA_A100"),
    *_family("vertex", "a100-80", [(f"a2-ultragpu-{n}", g, c, m) for n, g, c, m in _A2_ULTRA], "NVIDIA_A100_80GB"),
    *_family("vertex", "h100", [(f"a3-highgpu-{n}", g, c, m) for n, g, c, m in _A3], "NVIDIA_H100_80GB"),
    *_family("vertex", "h200", [("a3-ultragpu-8g", 8, 224, 2952)], "NVIDIA_H200_141GB"),
    *_family("vertex", "l4", [(f"g2-standard-{n}", g, c, m) for n, g, c, m in [*_G2, *_G2_MORE]], "NVIDIA_L4"),
    *_family("vertex", "cpu", [(f"n2-standard-{cpus}", 0, cpus, 4.0 * cpus) for cpus in (4, 8, 16, 32, 64, 96)]),
]
_AZUREML = [
    *_family("azureml", "t4", [("Standard_NC4as_T4_v3", 1, 4, 28), ("Standard_NC8as_T4_v3", 1, 8, 56)]),
    *_family("azureml", "t4", [("Standard_NC16as_T4_v3", 1, 16, 110), ("Standard_NC64as_T4_v3", 4, 64, 440)]),
    *_family("azureml", "a10", [("Standard_NV36ads_A10_v5", 1, 36, 440), ("Standard_NV72ads_A10_v5", 2, 72, 880)]),
    *_family(
        "azureml", "a100-80", [("Standard_NC24ads_A100_v4", 1, 24, 220), ("Standard_NC48ads_A100_v4", 2, 48, 440)]
    ),
    *_family("azureml", "a100-80", [("Standard_NC96ads_A100_v4", 4, 96, 880)]),
    *_family("azureml", "a100-80", [("Standard_ND96amsr_A100_v4", 8, 96, 1900)]),
    *_family("azureml", "a100-40", [("Standard_ND96asr_v4", 8, 96, 900)]),
    *_family("azureml", "h100", [("Standard_ND96isr_H100_v5", 8, 96, 1900)]),
    *_family("azureml", "h200", [("Standard_ND96isr_H200_v5", 8, 96, 1850)]),
    *_family("azureml", "cpu", [(f"Standard_D{cpus}s_v5", 0, cpus, 4.0 * cpus) for cpus in (4, 8, 16, 32, 64, 96)]),
]

INSTANCES: tuple[Instance, ...] = (*_SAGEMAKER, *_VERTEX, *_AZUREML)
"""All types that we know."""


def find_instance(cloud: str, name: str) -> Instance | None:
    """Return a type of machine by its name; None if we do not know it."""
    return next((each for each in INSTANCES if (each.cloud, each.name) == (cloud, name)), None)


def instance_names(cloud: str) -> list[str]:
    """Return the names of all types of a cloud that we know."""
    return [each.name for each in INSTANCES if each.cloud == cloud]
