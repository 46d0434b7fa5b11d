"""How fast a device computes and what power it draws, as vendors publish it, and the time of a step from that.

The time is an estimate with an error of about a factor of two. It holds for networks alone; reading the data, talking
between nodes, evaluations and checkpoints come on top.

References
----------
NVIDIA's data sheets of each card: dense rates of the tensor cores without sparsity, memory bandwidth, board power.
S. Williams, A. Waterman, D. Patterson 2009, Communications of the ACM 52, 65 (roofline model).
"""

from __future__ import annotations

from dataclasses import dataclass

HOST_S_PER_KERNEL = 30e-6
"""Time in which the host starts one operation of the network [s]; 400 operations take 12 ms beside one H100."""
OF_PEAK = 0.4
"""Share of the published rate that matrix products and convolutions reach."""
OF_BANDWIDTH = 0.6
"""Share of the published bandwidth that element-wise operations reach."""
TRANSFERS = 3
"""Number of times that the bytes of a new tensor cross the memory bus: two operands are read, one result is written."""
COMPILED = 0.63
"""Ratio of a compiled step to one that is not, where the host limits it (benchmarks/gpu)."""
CORE_W = 7.0
"""Power of one core of a server's processor, with its share of memory and fans [W]."""
FACTOR = 2.0
"""The truth is probably between the estimate divided by this and the estimate times this."""


@dataclass(frozen=True)
class Speed:
    """Published rates of one device; of a CPU, those of one core.

    Parameters
    ----------
    fp32, tf32, half : float
        Floating-point operations a second in these precisions [TFLOP/s]; `half` is that of bf16 and fp16.
    bandwidth_gb_s : float
        Bandwidth of the memory [GB/s].
    power_w : float
        Largest power of the board [W].
    """

    fp32: float
    tf32: float
    half: float
    bandwidth_gb_s: float
    power_w: float


SPEEDS: dict[str, Speed] = {
    "a100-40": Speed(19.5, 156, 312, 1555, 400),
    "a100-80": Speed(19.5, 156, 312, 2039, 400),
    "h100": Speed(67, 494, 989, 3350, 700),
    "h200": Speed(67, 494, 989, 4800, 700),
    "rtx-4090": Speed(82.6, 82.6, 165, 1008, 450),
    "a4000": Speed(19.2, 38.3, 76.7, 448, 140),
    "l40s": Speed(91.6, 183, 362, 864, 350),
    "l4": Speed(30.3, 60, 121, 300, 72),
    "a10": Speed(31.2, 62.5, 125, 600, 150),
    "v100-32": Speed(15.7, 15.7, 125, 900, 300),
    "v100": Speed(15.7, 15.7, 125, 900, 300),
    "t4": Speed(8.1, 8.1, 65, 320, 70),
    "agx-orin": Speed(5.3, 21, 42.5, 204.8, 60),
    "agx-orin-32": Speed(3.3, 13, 27, 204.8, 40),
    "cpu": Speed(0.1, 0.1, 0.1, 12, CORE_W),
}
"""Speed of each platform of :data:`~hpctrain.profile.platforms.PLATFORMS`."""


def pass_time_s(
    platform: str,
    precision: str,
    batch_size: int,
    flop_per_sample: float,
    made_bytes_per_sample: float,
    kernels: float,
    cores: int = 1,
    compiled: bool = False,
) -> float:
    """Return about how long one micro-batch takes, forwards and backwards [s].

    The device computes matrix products at a part of its peak rate and moves the tensors of everything else through its
    memory; the host starts one operation after the other. The slower of the two decides.

    Parameters
    ----------
    platform : str
        Name of a platform.
    precision : str
        As in ``train.precision``.
    batch_size : int
    flop_per_sample, made_bytes_per_sample, kernels : float
        As in :class:`~hpctrain.profile.memory.Measurement`.
    cores : int
        Cores of the rank; of importance on a CPU alone.
    compiled : bool
        ``train.compile``.
    """
    speed = SPEEDS[platform]
    units = cores if platform == "cpu" else 1
    rate = {"fp32": speed.fp32, "tf32": speed.tf32}.get(precision, speed.half) * 1e12 * units
    moved = TRANSFERS * made_bytes_per_sample / (OF_BANDWIDTH * speed.bandwidth_gb_s * 1e9 * units)
    device_s = batch_size * (flop_per_sample / (OF_PEAK * rate) + moved)
    return max(device_s, kernels * HOST_S_PER_KERNEL * (COMPILED if compiled else 1.0))
