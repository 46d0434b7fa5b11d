"""An NVIDIA GPU as its driver's management library (NVML) describes it.

Each call can be unsupported: on Orin the library loads and reports only the GPU's name. An unsupported call is made
once; its value is absent, with the reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "temperature",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
"""Bits of the throttle reasons that slow work down. The others (idle, clocks that a user has set) do no harm."""

POWER_REASONS, HEAT_REASONS = 0x4 | 0x80, 0x8 | 0x20 | 0x40

_FINAL = frozenset({"NotSupported", "FunctionNotFound", "NoPermission", "ArgumentVersionMismatch"})
"""Errors that the same call would return again."""


class NvmlError(Exception):
    """The library or the requested GPU does not exist."""


class NvmlGpu:
    """One GPU.

    Parameters
    ----------
    uuid : str, optional
        UUID such as ``GPU-…`` or ``MIG-…``. The first device of CUDA may have any number in the driver.
    index : int
        The driver's number of the GPU, where there is no UUID.

    Raises
    ------
    NvmlError
        There is no such GPU, no driver, or no nvidia-ml-py.
    """

    def __init__(self, uuid: str | None = None, index: int = 0) -> None:
        self._nvml = _library()
        try:
            self._handle = (
                self._nvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else self._nvml.nvmlDeviceGetHandleByIndex(index)
            )
        except self._nvml.NVMLError as error:
            raise NvmlError(f"NVML does not know GPU {uuid or index}: {error}") from error
        self.absent: dict[str, str] = {}
        self.index = index
        name = self._ask("gpu_name", lambda: self._nvml.nvmlDeviceGetName(self._handle))
        self.name = name.decode() if isinstance(name, bytes) else name or "NVIDIA GPU"
        self.absent.pop("gpu_name", None)

    def read(self) -> dict[str, float]:
        """Return the present utilisation, memory, temperature, power, clocks and throttle reasons of the GPU."""
        nvml, handle, values = self._nvml, self._handle, {}
        rates = self._ask("gpu_utilisation_percent", lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        memory = self._ask("gpu_memory_used_gib", lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        if rates is not None:
            values["gpu_utilisation_percent"] = float(rates.gpu)
        if memory is not None:
            values["gpu_memory_used_gib"] = memory.used / 2**30
            values["gpu_memory_total_gib"] = memory.total / 2**30
        simple: dict[str, tuple[Callable[[], float], float]] = {
            "gpu_temperature_c": (lambda: _temperature(nvml, handle), 1.0),
            "gpu_power_w": (lambda: nvml.nvmlDeviceGetPowerUsage(handle), 1000.0),
            "gpu_power_limit_w": (lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle), 1000.0),
            "gpu_clock_mhz": (lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM), 1.0),
            "gpu_throttle_reasons": (lambda: _throttle_reasons(nvml, handle), 1.0),
        }
        for name, (call, divisor) in simple.items():
            value = self._ask(name, call)
            if value is not None:
                values[name] = value / divisor
        if "gpu_throttle_reasons" in values:
            bits = int(values.pop("gpu_throttle_reasons"))
            values["gpu_throttled_by_heat"] = float(bool(bits & HEAT_REASONS))
            values["gpu_throttled_by_power"] = float(bool(bits & POWER_REASONS))
        return values

    def energy_j(self) -> float | None:
        """Return the driver's energy counter [J], since it was loaded; None where the GPU has none (before Volta)."""
        millijoules = self._ask("gpu_energy_j", lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        return None if millijoules is None else millijoules / 1000

    def slowdown_c(self) -> float | None:
        """Return the temperature at which the GPU slows itself down [°C]; None if it does not report it."""
        kind = self._nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
        value = self._ask(
            "gpu_slowdown_temperature_c", lambda: self._nvml.nvmlDeviceGetTemperatureThreshold(self._handle, kind)
        )
        self.absent.pop("gpu_slowdown_temperature_c", None)
        return float(value) if value else None

    def _ask(self, name: str, call: Callable[[], Any]) -> Any:
        """Return the value of a call, or None if it fails; a call that the device does not support is not repeated."""
        if name in self.absent:
            return None
        try:
            return call()
        except self._nvml.NVMLError as error:
            if type(error).__name__.removeprefix("NVMLError_") in _FINAL:
                self.absent[name] = f"NVML: {error}"
        except (AttributeError, OSError, ValueError) as error:  # an older binding, or a stub of a library
            self.absent[name] = f"NVML: {error!r}"
        return None


def find_gpu(uuid: str | None) -> tuple[NvmlGpu | None, str]:
    """Return the GPU with the UUID that CUDA reports, or the reason why it cannot be found.

    Parameters
    ----------
    uuid : str or None
        UUID with or without ``GPU-``; CUDA does not report whether it belongs to a whole GPU or to a MIG instance.
        Without a UUID, or with one that the driver does not know (Orin), the GPU is found only if there is no other.

    Returns
    -------
    gpu : NvmlGpu or None
    reason : str
        Empty if the GPU was found.
    """
    reason = "NVML: cannot find the GPU of this rank among several, because CUDA reports no UUID"
    names = [] if uuid is None else [uuid] if uuid.startswith(("GPU-", "MIG-")) else [f"GPU-{uuid}", f"MIG-{uuid}"]
    try:
        for name in names:
            try:
                return NvmlGpu(name), ""
            except NvmlError as error:
                reason = str(error)
        return (NvmlGpu(index=0), "") if gpu_count() == 1 else (None, reason)
    except NvmlError as error:
        return None, str(error)


def gpu_count() -> int:
    """Return how many GPUs the driver manages.

    Raises
    ------
    NvmlError
        There is no driver, or no nvidia-ml-py.
    """
    nvml = _library()
    try:
        return int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        raise NvmlError(f"NVML: {error}") from error


def _library() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise NvmlError("nvidia-ml-py is not installed") from error
    try:
        pynvml.nvmlInit()  # every call counts; the process ends without nvmlShutdown, which would free nothing else
    except pynvml.NVMLError as error:
        raise NvmlError(f"NVML: {error}") from error
    return pynvml


def _temperature(nvml: Any, handle: Any) -> float:
    kind = nvml.NVML_TEMPERATURE_GPU
    return _newest(nvml, ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature"), handle, kind)


def _throttle_reasons(nvml: Any, handle: Any) -> int:
    names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    return _newest(nvml, names, handle)


def _newest(nvml: Any, names: tuple[str, str], *arguments: Any) -> Any:
    """Call the newer of two names of a function, or the older one where the binding or the driver lacks the newer."""
    newer = getattr(nvml, names[0], None)
    if newer is not None:
        with contextlib.suppress(nvml.NVMLError):
            return newer(*arguments)
    return getattr(nvml, names[1])(*arguments)
