"""What an attempt records about itself and its data before its first step."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import torch

from hpctrain.distributed.group import why_no_gpu
from hpctrain.metrics.events import DataFound, GpuMissing, Started
from hpctrain.profile.inspection import NOTE, WARNING
from hpctrain.train.build import device_facts, num_parameters
from hpctrain.train.settle import record_profile_changes

if TYPE_CHECKING:
    from hpctrain.train.run import Run


def announce(run: Run) -> None:
    """Record, on rank 0, what has changed in the profile, where the attempt runs, and what its data are."""
    if run.metrics is None:
        return
    record_profile_changes(run.directory, run.attempt, run.metrics, run.progress.step)
    run.metrics.event(_started(run), run.progress.step)
    run.metrics.event(_data_found(run), run.progress.step)
    asked = run.profile.launch.gpus_per_node
    if asked > 0 and run.device.type == "cpu" and run.profile.train.device != "cpu":
        run.metrics.event(GpuMissing(gpus_per_node=asked, reason=why_no_gpu()), run.progress.step)


def _started(run: Run) -> Started:
    world = run.world
    return Started(
        job_id=world.job_id,
        restart_count=world.restart_count,
        world_size=world.world_size,
        num_nodes=world.num_nodes,
        hosts=os.environ.get("SLURM_STEP_NODELIST") or socket.gethostname(),
        start_step=run.progress.step,
        total_steps=run.schedule.total_steps,
        torch=torch.__version__,
        num_parameters=num_parameters(run.model),
        accumulation=run.schedule.accumulation(world.world_size),
        **device_facts(run.device),
    )


def _data_found(run: Run) -> DataFound:
    samples, found = run.data.samples, run.data.inspection
    return DataFound(
        counts={
            run.kind.words.count_field: len(samples),
            **run.kind.shape(samples),
            **run.kind.counts(samples),
            **found.counts(),
        },
        num_train=len(run.data.train_rows),
        num_validation=len(run.data.validation_rows),
        warnings=found.texts(WARNING),
        notes=[*found.texts(NOTE), *samples.notes],
    )
