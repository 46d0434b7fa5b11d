"""The sensors of this rank: which GPU it uses, which rank reads the node's sensors, and who receives the readings."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch

from hpctrain.distributed.world import node_name
from hpctrain.metrics.events import Event, SensorsFound
from hpctrain.monitor.ledger import Ledger, read_ledgers, sum_up
from hpctrain.monitor.nvml import NvmlGpu, find_gpu
from hpctrain.monitor.pace import Governor
from hpctrain.monitor.sampler import Sampler
from hpctrain.monitor.sensors import Sensors
from hpctrain.profile.sections.outputs import MonitorSection
from hpctrain.rundir import RunDir

if TYPE_CHECKING:
    from hpctrain.train.run import Rank


def build_sampler(rank: Rank, monitor: MonitorSection) -> Sampler:
    """Build the sampler of this rank; it starts reading when it is entered as a context manager.

    Parameters
    ----------
    rank : Rank
        The first rank of a node reads the sensors of the node. The GPU of a rank is found by UUID, because CUDA and the
        driver may number devices differently.
    monitor : MonitorSection
    """
    world, heartbeat, metrics = rank.world, rank.heartbeat, rank.metrics
    gpu, why_not = own_gpu(rank.device)
    sensors = Sensors(
        gpu=gpu,
        why_no_gpu=why_not,
        of_node=world.local_rank == 0,
        thermal_limit_c=monitor.thermal_limit_c,
        power_limit_w=monitor.power_limit_w,
    )

    def record(values: dict[str, Any]) -> None:
        if metrics is not None:
            metrics.monitor(heartbeat.step, **values)

    def tell(event: Event) -> None:
        if metrics is not None:
            metrics.event(event, heartbeat.step)
        elif not isinstance(event, SensorsFound):
            text = event.at(heartbeat.step).describe()
            print(f"hpctrain: rank {world.rank}: {text}", file=sys.stderr, flush=True)

    return Sampler(
        sensors,
        Governor(monitor.dwell_s),
        Ledger(rank.directory, world.rank, rank.attempt, node_name()),
        monitor.sample_interval_s,
        lambda: heartbeat.step,
        record,
        tell,
    )


def own_gpu(device: torch.device) -> tuple[NvmlGpu | None, str]:
    """Return the driver's handle of this rank's GPU, or None and the reason; None without a reason on a CPU."""
    if device.type != "cuda":
        return None, ""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)  # since torch 2.4
    return find_gpu(None if uuid is None else str(uuid))


def energy_fields(run: RunDir, num_samples: int) -> dict[str, float]:
    """Return the energy of all ranks and attempts of a run for its last event; empty where none was measured.

    Parameters
    ----------
    run : RunDir
    num_samples : int
        Number of samples seen in training.
    """
    energy = sum_up(read_ledgers(run))
    if energy.joules is None:
        return {}
    fields = {"energy_kwh": energy.kwh, "energy_unmeasured_s": energy.unmeasured_s, "rested_s": energy.rested_s}
    per_sample_j = energy.per_sample_j(num_samples)
    return fields if per_sample_j is None else {**fields, "joules_per_sample": per_sample_j}
