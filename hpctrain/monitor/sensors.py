"""All sensors of one rank: those of its GPU and its process, and on the first rank of a node those of the node."""

from __future__ import annotations

from pathlib import Path

from hpctrain.monitor.energy import EnergyMeter
from hpctrain.monitor.hostmemory import HostMemory
from hpctrain.monitor.jetson import JetsonGpu, PowerMode, is_jetson
from hpctrain.monitor.limits import power_limit, temperature_limit
from hpctrain.monitor.nvml import NvmlGpu
from hpctrain.monitor.overcurrent import OverCurrent
from hpctrain.monitor.pace import Limit, Reading
from hpctrain.monitor.processor import MachineLoad, ProcessLoad, find_packages
from hpctrain.monitor.rails import PowerRails
from hpctrain.monitor.sysfs import sysfs_root
from hpctrain.monitor.thermal import Trips, Zone, find_zones

Values = dict[str, float]

NO_TEMPERATURE = "no thermal zones below /sys/class/thermal"


class Sensors:
    """The sensors that this rank reads.

    Parameters
    ----------
    root : Path
        Where ``sys``, ``proc``, ``etc`` and ``var`` are.
    gpu : NvmlGpu or None
        The GPU on which this rank computes.
    why_no_gpu : str
        Why the GPU could not be found; empty on a CPU.
    of_node : bool
        Whether this rank reads the sensors of its node: CPUs, memory, thermal zones, the rails of a board.
    thermal_limit_c, power_limit_w : float or None
        Values of the profile's ``monitor`` section.
    """

    def __init__(
        self,
        root: Path | None = None,
        gpu: NvmlGpu | None = None,
        why_no_gpu: str = "",
        of_node: bool = True,
        thermal_limit_c: float | None = None,
        power_limit_w: float | None = None,
    ) -> None:
        root = sysfs_root() if root is None else root
        self.gpu, self.is_jetson, self._of_node = gpu, is_jetson(root), of_node
        self._why_no_gpu = why_no_gpu
        self._process = ProcessLoad(root)
        self.rails = PowerRails(root) if of_node else None
        self._over_current = OverCurrent(root, self.rails) if self.rails else None
        self._soc_gpu = JetsonGpu(root) if self.is_jetson else None
        self._mode = PowerMode(root) if self.is_jetson else None
        self.zones: list[Zone] = find_zones(root) if of_node else []
        self._machine = MachineLoad(root) if of_node else None
        self.memory = HostMemory(root) if of_node else None
        self._packages, self._why_no_packages = find_packages(root) if of_node else ([], "")
        self._packages = [] if self.is_jetson else self._packages
        self.limits = self._find_limits(thermal_limit_c, power_limit_w)

    def read(self, now_s: float, meter: EnergyMeter) -> Values:
        """Read everything once, and add the energy since the last time to the meter.

        Parameters
        ----------
        now_s : float
            Time on a clock that never goes back.
        meter : EnergyMeter

        Returns
        -------
        dict
            Values by name, only those that could be read; the names have units.
        """
        values = self.gpu.read() if self.gpu else {}
        if self._soc_gpu is not None:  # NVML of a later Orin may report it; sysfs reports it today
            values = {**self._soc_gpu.read(), **values}
        values |= self._process.read(now_s)
        if self._machine is not None and self.memory is not None:
            values |= {**self._machine.read(), **self.memory.read()}
        celsius = {zone.name: zone.temperature_c() for zone in self.zones}
        values |= {f"temperature_{name}_c": value for name, value in celsius.items() if value is not None}
        if self.is_jetson and celsius.get("gpu") is not None:
            values.setdefault("gpu_temperature_c", celsius["gpu"])
        values |= self.rails.read() if self.rails else {}
        self._measure(now_s, meter, values)
        return {name: round(value, 4) for name, value in values.items()}

    def _measure(self, now_s: float, meter: EnergyMeter, values: Values) -> None:
        """Add energy by the measurement that covers most: the input of a board includes its GPU and its CPUs."""
        if self.rails is not None and self.rails.rails:
            meter.add_power("board", now_s, values.get("board_power_w"))
        elif self.gpu is not None:
            self._measure_gpu(self.gpu, now_s, meter, values)
        for package in self._packages:
            watts = meter.add_counter(f"cpu_{package.name}", now_s, package.energy_j(), package.wrap_j)
            if watts is not None:
                values["cpu_package_power_w"] = values.get("cpu_package_power_w", 0.0) + watts

    @staticmethod
    def _measure_gpu(gpu: NvmlGpu, now_s: float, meter: EnergyMeter, values: Values) -> None:
        joules = gpu.energy_j()
        if "gpu_energy_j" not in gpu.absent:
            mean_w = meter.add_counter("gpu", now_s, joules)
            if mean_w is not None:
                values.setdefault("gpu_power_w", mean_w)
        elif "gpu_power_w" not in gpu.absent:
            meter.add_power("gpu", now_s, values.get("gpu_power_w"))

    def power_mode(self) -> str | None:
        """Return the power mode of a Jetson; None on other machines and where it cannot be read."""
        return self._mode.read() if self._mode else None

    def alarms(self) -> list[str]:
        """Return over-current events since the last call, as text."""
        return self._over_current.new_events() if self._over_current else []

    def readings(self, values: Values, watts: float | None) -> list[Reading]:
        """Return the readings that are compared with limits.

        Parameters
        ----------
        values : dict
            From :meth:`read`.
        watts : float or None
            Power to compare with the profile's limit [W]; a mean, because a run that pauses draws power in bursts.
        """
        reported = {zone.name: values.get(f"temperature_{zone.name}_c") for zone in self.zones}
        reported |= {"GPU": values.get("gpu_temperature_c"), "power": watts}
        known = [(name, reported[name], limit) for name, limit in self.limits.items()]
        return [Reading(name, value, limit) for name, value, limit in known if value is not None]

    @staticmethod
    def power_w(values: Values) -> float | None:
        """Return the power that ``monitor.power_limit_w`` limits [W]: the board's, else the GPU's, else the CPUs'."""
        names = ("board_power_w", "gpu_power_w", "cpu_package_power_w")
        return next((values[name] for name in names if name in values), None)

    def _find_limits(self, limit_c: float | None, limit_w: float | None) -> dict[str, Limit]:
        """Return the limits, by the quantity they apply to.

        Trip points count on a Jetson only: on other machines the firmware's may have any value, and the driver of a GPU
        protects its GPU. The profile's limit applies to the GPU where there is a discrete one, else to all zones.
        """
        limits: dict[str, Limit | None] = {}
        if self.gpu is not None and not self.is_jetson:
            if limit_c is not None:
                limits["GPU"] = temperature_limit(limit_c, Trips(hot=self.gpu.slowdown_c()))
        else:
            for zone in self.zones:
                limits[zone.name] = temperature_limit(limit_c, zone.trips if self.is_jetson else Trips())
        limits["power"] = power_limit(limit_w)
        return {name: limit for name, limit in limits.items() if limit is not None}

    def absent(self) -> dict[str, str]:
        """Return the values that this device does not report, and why; complete after the first :meth:`read`."""
        missing: dict[str, str] = {}
        if self._why_no_gpu:
            missing["gpu"] = self._why_no_gpu
        if self.gpu is not None:
            missing |= self.gpu.absent
        if self._soc_gpu is not None:
            reported = {"gpu_utilisation_percent", "gpu_clock_mhz"} - self._soc_gpu.absent.keys()
            reported |= {"gpu_memory_used_gib"}  # it is the board's memory
            reported |= {"gpu_temperature_c"} if any(zone.name == "gpu" for zone in self.zones) else set()
            if self.rails is not None and not self.rails.absent:
                reported |= {"gpu_power_w", "gpu_power_limit_w", "gpu_energy_j"}
            missing = {name: why for name, why in {**self._soc_gpu.absent, **missing}.items() if name not in reported}
        if self.rails is not None and self.is_jetson:
            missing |= self.rails.absent
        if self._of_node and not self.is_jetson and not self._packages:
            missing["cpu_package_power_w"] = self._why_no_packages
        if self._of_node and not self.zones:
            missing["temperature"] = NO_TEMPERATURE
        return missing
