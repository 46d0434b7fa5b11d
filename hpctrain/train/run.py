"""What a training run consists of: its data, its parts, and the numbers of its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from hpctrain.families.family import Family
from hpctrain.kinds.kind import Kind
from hpctrain.profile.inspection import Inspection
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.model import ModelSection
from hpctrain.rundir import RunDir
from hpctrain.samples.protocols import Batch, Facts, Samples

if TYPE_CHECKING:
    from hpctrain.checkpoint.uploader import Uploader
    from hpctrain.checkpoint.writer import CheckpointWriter
    from hpctrain.distributed.heartbeat import Heartbeat
    from hpctrain.distributed.stop import StopRequest
    from hpctrain.distributed.watchdog import Watchdog
    from hpctrain.distributed.world import World
    from hpctrain.metrics.record import MetricsWriter
    from hpctrain.monitor.sampler import Sampler
    from hpctrain.train.adamw import AdamW
    from hpctrain.train.pacing import Pacer
    from hpctrain.train.scaling import LossScale
    from hpctrain.train.schedule import Schedule


@dataclass(frozen=True)
class Data:
    """The open files, and the samples on each side of the split.

    Parameters
    ----------
    samples : Samples
    train_rows, validation_rows : ndarray of int64
        Rows of the set, sorted.
    blocks : ndarray of int64, or None
        Index in the training rows at which each block that is decoded as a whole begins; None without such blocks.
    section : ModelSection
        The model, with the values that the first attempt computed from the data.
    facts : Facts
        Facts from which the shapes of the model are computed; also fixed at the first attempt.
    inspection : Inspection
        Findings in a sample of the training rows.
    lengths : ndarray of int64, or None
        Length of each training sample, where those of similar length share a batch.
    test_rows : ndarray of int64
        Rows of the test side that the finished model shall describe; none unless ``data.split.results`` is ``test``.
    """

    samples: Samples
    train_rows: np.ndarray
    validation_rows: np.ndarray
    blocks: np.ndarray | None
    section: ModelSection
    facts: Facts
    inspection: Inspection
    lengths: np.ndarray | None = None
    test_rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def described_rows(self) -> np.ndarray:
        """Rows that the finished model describes in ``results/``."""
        return self.test_rows if len(self.test_rows) else self.validation_rows


@dataclass(frozen=True)
class Rank:
    """One rank of an attempt: where it computes, how it is stopped, and what watches it.

    Parameters
    ----------
    directory : RunDir
    world : World
    device : torch.device
    attempt : int
        Number of the attempt, from 1.
    stop : StopRequest
    heartbeat : Heartbeat
    watchdog : Watchdog
    metrics : MetricsWriter or None
        Only on rank 0.
    """

    directory: RunDir
    world: World
    device: torch.device
    attempt: int
    stop: StopRequest
    heartbeat: Heartbeat
    watchdog: Watchdog
    metrics: MetricsWriter | None


@dataclass
class Progress:
    """The numbers that are part of the state.

    Parameters
    ----------
    step : int
        Number of completed steps.
    evaluated_step : int
        Step of the last evaluation, -1 before the first one; a stop may come between a step and the evaluation that is
        due after it.
    best_step : int or None
        Step of the best evaluation.
    best_value : float or None
        Value of the family's objective at that step.
    evaluations_without_progress : int
        Number of evaluations since the last best one, for early stopping.
    stopped_early : bool
        Whether training ended before the last step.
    """

    step: int = 0
    evaluated_step: int = -1
    best_step: int | None = None
    best_value: float | None = None
    evaluations_without_progress: int = 0
    stopped_early: bool = False


class Referee(Protocol):
    """Judges a run that is one trial of a search after each evaluation; rank 0 alone has one."""

    def __call__(self, step: int, found: Mapping[str, Any]) -> bool:
        """Record an evaluation; return whether the run is hopeless and should end.

        Parameters
        ----------
        step : int
        found : mapping
            Metrics of the evaluation.
        """


@dataclass
class Run:
    """All parts that the training loop uses.

    Parameters
    ----------
    family, kind : Family, Kind
        What learns, and what it learns from.
    prepare : callable
        Cleans and normalises a batch on its device.
    augment : callable or None
        Changes a prepared training batch at random.
    sampler : Sampler
        Reads the sensors; enter it as a context manager while the run trains.
    pacer : Pacer
        Slows the run down where the sensors require it.
    metrics : MetricsWriter or None
        Only on rank 0. It passes records, figures and histograms to the exporters.
    model : Module or RoundsModel
        The model itself, which is saved, evaluated and exported.
    update : UpdateStep or RoundStep
        Does one step with the next batches.
    optimizer : AdamW or None
        None for a model that learns in rounds.
    averaged : dict of str to Tensor, or None
        Moving averages of the parameters by name.
    is_trial : bool
        Whether a referee may end the run after an evaluation.
    referee : Referee or None
        Only on rank 0 of a trial.
    uploader : Uploader or None
        Only on rank 0 of a run with a mirror.
    """

    directory: RunDir
    profile: Profile
    family: Family
    kind: Kind
    world: World
    device: torch.device
    attempt: int
    data: Data
    schedule: Schedule
    prepare: Callable[[Batch], Batch]
    augment: Callable[[Batch], Batch] | None
    loss_scale: LossScale
    progress: Progress
    stop: StopRequest
    heartbeat: Heartbeat
    watchdog: Watchdog
    checkpoints: CheckpointWriter | None
    metrics: MetricsWriter | None
    sampler: Sampler
    pacer: Pacer
    model: Any = None
    update: Any = None
    optimizer: AdamW | None = None
    averaged: dict[str, torch.Tensor] | None = None
    is_trial: bool = False
    referee: Referee | None = None
    uploader: Uploader | None = None

    @property
    def learns_by_gradient(self) -> bool:
        """Whether the model is a network; else it learns in rounds."""
        return self.family.how == "gradient"
