"""List every sensor of a machine with its present value, and why others are absent."""

from __future__ import annotations

import time
from pathlib import Path

from hpctrain.monitor.energy import EnergyMeter
from hpctrain.monitor.jetson import board_name
from hpctrain.monitor.nvml import NvmlError, NvmlGpu, gpu_count
from hpctrain.monitor.sensors import Sensors
from hpctrain.monitor.sysfs import sysfs_root

_INTERVAL_S = 0.5
"""Time between the two readings that a share of time, or a power from an energy counter, needs [s]."""


def survey(root: Path | None = None, interval_s: float = _INTERVAL_S, is_recorded: bool = False) -> str:
    """Return one line per sensor.

    Parameters
    ----------
    root : Path, optional
        Where ``sys`` and ``proc`` are; None means ``/`` or ``HPCTRAIN_SYSFS_ROOT``.
    interval_s : float
        Time between two readings [s].
    is_recorded : bool
        Whether `root` is a recorded machine; the GPUs that NVML finds here are then left out.
    """
    root = sysfs_root() if root is None else root
    gpus, why_not = ([], "not recorded") if is_recorded else _gpus()
    sensors = [Sensors(root, gpu=gpus[0] if gpus else None, why_no_gpu=why_not)]
    sensors += [Sensors(root, gpu=gpu, of_node=False) for gpu in gpus[1:]]
    blocks = []
    for index, each in enumerate(sensors):
        meter = EnergyMeter(longest_gap_s=60.0)
        each.read(time.monotonic(), meter)
        time.sleep(interval_s)
        values = {**each.read(time.monotonic(), meter)}
        gpu = gpus[index] if index < len(gpus) else None
        lines = [_title(root, each, gpu, index)]
        lines += [f"  {name:<34}{value:>14,.3f}" for name, value in sorted(values.items())]
        if (mode := each.power_mode()) is not None:
            lines.append(f"  {'power_mode':<34}{mode:>14}")
        lines += [f"  {name + ' limit':<34}{_limit(limit)}" for name, limit in each.limits.items()]
        energy = ", ".join(sorted(meter.joules)) or "no source"
        lines.append(f"  {'energy is measured by':<34}{energy:>14}")
        lines += [f"  {name:<34}{'absent':>14}  {why}" for name, why in sorted(each.absent().items())]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _gpus() -> tuple[list[NvmlGpu], str]:
    try:
        return [NvmlGpu(index=index) for index in range(gpu_count())], ""
    except NvmlError as error:
        return [], str(error)


def _title(root: Path, sensors: Sensors, gpu: NvmlGpu | None, index: int) -> str:
    board = board_name(root) or ("a Jetson" if sensors.is_jetson else "this machine")
    parts = [board] if index == 0 else []
    if gpu is not None:
        parts.append(f"GPU {gpu.index}: {gpu.name}")
    return ", ".join(parts)


def _limit(limit: object) -> str:
    numbers = (f"{level} {value:g}" for level, value in vars(limit).items() if level in ("warm", "hot", "critical"))
    return "  ".join(numbers) + f"  ({limit.origin})"
