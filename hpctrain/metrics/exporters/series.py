"""The one list of what Prometheus sees: the exporter, the rules of alerts and the dashboard take the names from here.

Names follow the rules of Prometheus [1]_: base units (seconds, bytes, ratios, degrees Celsius, watts, joules, hertz) at
the end of the name, and parts of a machine as labels.

References
----------
.. [1] Prometheus, "Metric and label naming", https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hpctrain.words import Words

PREFIX = "hpctrain"
OF_RUN = ("run", "host")
OF_RANK = ("run", "rank", "host")
OF_ALERT = ("run", "host", "alert", "severity")


@dataclass(frozen=True)
class Series:
    """One metric of Prometheus.

    Parameters
    ----------
    key : str
        Its name without the prefix.
    text : str
        What it is, in one sentence; ``{many}`` stands for what the run calls its samples.
    labels : tuple of str
    source : str
        The number of a record or of the sensors that it is made of; empty if the exporter computes it.
    factor : float
        What one of the source is in the unit of the metric.
    """

    key: str
    text: str
    labels: tuple[str, ...] = OF_RUN
    source: str = ""
    factor: float = 1.0

    @property
    def name(self) -> str:
        return f"{PREFIX}_{self.key}"

    def help(self, words: Words) -> str:
        """Return the text with the words of a run."""
        text = self.text.format(many=words.many)
        return text[:1].upper() + text[1:]


ACTIVE_ALERT = Series("alert_active", "1 while an alert of hpctrain is raised, else 0.", OF_ALERT)

_GIB = 2.0**30
OF_RUNS = (
    Series("step", "Completed steps."),
    Series("total_steps", "Steps of the whole run."),
    Series("attempt", "Number of the attempt."),
    Series("training", "1 while an attempt trains, else 0."),
    Series("failed", "1 if the attempt has failed, else 0."),
    Series("step_timestamp_seconds", "Unix time at which the newest step was seen."),
    Series("step_duration_seconds", "Time of a step between the two newest training records."),
    Series("checkpoint_step", "Step of the newest checkpoint."),
    Series("checkpoint_every_steps", "Steps between two checkpoints, as the profile says."),
    Series("checkpoint_timestamp_seconds", "Unix time of the newest checkpoint."),
    Series("run_energy_joules", "Energy of all ranks and attempts."),
    Series("run_energy_unmeasured_seconds", "Time without energy readings."),
    Series("run_rested_seconds", "Time paused to let the machine cool down."),
    ACTIVE_ALERT,
)
"""What describes a run."""
OF_TRAINING = (
    Series("train_loss", "Loss of the newest recorded step.", source="loss"),
    Series("train_samples_per_second", "{many} per second, all ranks.", source="samples_per_s"),
    Series("train_gradient_norm", "Norm of the gradient before clipping.", source="grad_norm"),
    Series("train_learning_rate", "Learning rate.", source="lr"),
    Series("train_epoch", "Passes over the training {many}.", source="epoch"),
    Series(
        "train_data_wait_ratio", "Share of the time in which the loop waited for batches.", source="data_wait_share"
    ),
    Series("train_step_skipped", "1 if the newest recorded step was skipped, else 0.", source="skipped"),
    Series("validation_loss", "Loss on the held-out {many}."),
)
"""Numbers of training records and evaluations; families add ``validation_`` and the names of their metrics."""
OF_RANKS = (
    Series("gpu_utilisation_ratio", "Share of the time a kernel ran.", OF_RANK, "gpu_utilisation_percent", 0.01),
    Series("gpu_memory_used_bytes", "Used memory of the GPU, all processes.", OF_RANK, "gpu_memory_used_gib", _GIB),
    Series("gpu_memory_size_bytes", "Memory of the GPU.", OF_RANK, "gpu_memory_total_gib", _GIB),
    Series("gpu_temperature_celsius", "Temperature of the GPU.", OF_RANK, "gpu_temperature_c"),
    Series("gpu_power_watts", "Power of the GPU.", OF_RANK, "gpu_power_w"),
    Series("gpu_power_limit_watts", "Power limit of the GPU.", OF_RANK, "gpu_power_limit_w"),
    Series("gpu_clock_hertz", "Clock of the GPU.", OF_RANK, "gpu_clock_mhz", 1e6),
    Series("gpu_clock_limit_hertz", "Highest clock of the GPU.", OF_RANK, "gpu_clock_limit_mhz", 1e6),
    Series("gpu_throttled_by_heat", "1 if heat slows the GPU down, else 0.", OF_RANK, "gpu_throttled_by_heat"),
    Series("gpu_throttled_by_power", "1 if the power limit slows the GPU down.", OF_RANK, "gpu_throttled_by_power"),
    Series("board_power_watts", "Power of the board.", OF_RANK, "board_power_w"),
    Series("rail_power_watts", "Power of a rail of the board.", (*OF_RANK, "rail"), "rail_(?P<rail>.+)_w"),
    Series("temperature_celsius", "Temperature of a zone.", (*OF_RANK, "zone"), "temperature_(?P<zone>.+)_c"),
    Series("cpu_utilisation_ratio", "Use of all CPUs of the node.", OF_RANK, "cpu_utilisation_percent", 0.01),
    Series("cpu_clock_hertz", "Clock of the CPUs.", OF_RANK, "cpu_clock_mhz", 1e6),
    Series("cpu_package_power_watts", "Power of the processors.", OF_RANK, "cpu_package_power_w"),
    Series("process_cpu_ratio", "CPU time of the rank per time; 1 is one core.", OF_RANK, "process_cpu_percent", 0.01),
    Series("process_memory_bytes", "Memory of the rank.", OF_RANK, "process_memory_gib", _GIB),
    Series("memory_size_bytes", "Memory of the node, or of the job.", OF_RANK, "memory_total_gib", _GIB),
    Series("memory_available_bytes", "Memory that is available.", OF_RANK, "memory_available_gib", _GIB),
    Series("swap_used_bytes", "Used swap space of the node.", OF_RANK, "swap_used_gib", _GIB),
    Series("memory_pressure_ratio", "Time waited for memory.", OF_RANK, "memory_pressure_percent", 0.01),
    Series("energy_joules", "Energy of the rank in this attempt.", OF_RANK, "energy_j"),
    Series("duty_ratio", "Share of the time in which the rank computes.", OF_RANK, "duty"),
    Series("pace_level", "Pace of the run: 0 ok, 1 warm, 2 hot, 3 critical.", OF_RANK),
    Series("sample_timestamp_seconds", "Unix time at which the sensors were read.", OF_RANK),
)
"""Sensors of each rank."""
ALL: Mapping[str, Series] = {each.key: each for each in (*OF_RUNS, *OF_TRAINING, *OF_RANKS)}
_BY_SENSOR = {each.source: each for each in OF_RANKS if each.source}
_IN_PARTS = [(re.compile(source), each) for source, each in _BY_SENSOR.items() if "(" in source]


def series(key: str) -> str:
    """Return the full name of a metric of the list.

    Raises
    ------
    KeyError
        There is no such metric.
    """
    return ALL[key].name


def of_sensor(name: str) -> tuple[Series, dict[str, str]] | None:
    """Return the metric of a sensor's value and its labels of a part, such as its rail; None if it has none.

    Parameters
    ----------
    name : str
        As in ``monitor/rank-0000.json``, such as ``gpu_power_w``.
    """
    if (found := _BY_SENSOR.get(name)) is not None:
        return found, {}
    for pattern, each in _IN_PARTS:
        if match := pattern.fullmatch(name):
            return each, match.groupdict()
    return None


def of_metric(name: str, meaning: str) -> Series:
    """Return the metric of Prometheus for a metric of a family's evaluations."""
    key = re.sub(r"[^a-zA-Z0-9_]", "_", f"validation_{name}")
    return Series(key, f"{meaning} on the held-out {{many}}.", source=name)
