"""A profile: one training run, made of typed sections (:mod:`hpctrain.profile.sections`)."""

from __future__ import annotations

import warnings

from hpctrain.profile.sections.base import Line, Name, Section
from hpctrain.profile.sections.data import DEFAULT_READER_THREADS, DataSection
from hpctrain.profile.sections.edge import EdgeSection
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.profile.sections.model import ModelSection
from hpctrain.profile.sections.outputs import MonitorSection, TrackSection
from hpctrain.profile.sections.train import CheckpointSection, TrainSection
from hpctrain.profile.sections.validate import ValidateSection
from hpctrain.profile.update import UpdateShape

with warnings.catch_warnings():
    # The name of the section is that of a method of BaseModel, which pydantic 2 has replaced and nothing here calls.
    warnings.filterwarnings("ignore", 'Field name "validate"', UserWarning)

    class Profile(Section):
        """One training run.

        The class of a profile has the `model` section of its family and the `data` section of the family's kind of
        data: :func:`hpctrain.profile.families.profile_class` makes it.
        """

        name: Name
        """Name of the run's folder and of the Slurm job: letters, digits, dot, dash, underscore."""
        description: Line = ""
        """One line that the report shows."""
        platform: Name | None = None
        """The device, such as ``a100-40``, used to check memory; ``hpctrain platforms`` lists the names."""
        launch: LaunchSection = LaunchSection()
        data: DataSection
        model: ModelSection
        train: TrainSection = TrainSection()
        checkpoint: CheckpointSection = CheckpointSection()
        track: TrackSection = TrackSection()
        monitor: MonitorSection = MonitorSection()
        edge: EdgeSection = EdgeSection()
        validate: ValidateSection = ValidateSection()

        @property
        def update_shape(self) -> UpdateShape:
            """What one update of the weights is made of."""
            train, ranks = self.train, self.launch.world_size
            micro_batch = None if train.batch_size == "auto" else train.batch_size
            # With auto the rules ask for a global batch; the one that is taken here only keeps them going.
            product = (micro_batch or 1) * train.accumulation * ranks
            return UpdateShape(train.global_batch or product, micro_batch, ranks)

        @property
        def global_batch(self) -> int:
            """Samples per step, over all ranks and micro-batches."""
            return self.update_shape.global_batch

        @property
        def accumulation(self) -> int:
            """Micro-batches per rank and step; 1 while the size of a micro-batch (``auto``) is not known yet."""
            return self.update_shape.accumulation

        @property
        def reader_threads(self) -> int:
            """Threads of each rank that prefetch batches: the profile's number, else as many as its cores allow."""
            if self.data.reader_threads is not None:
                return self.data.reader_threads
            return min(DEFAULT_READER_THREADS, self.launch.cpus_per_rank)

        def with_update_shape(self, shape: UpdateShape) -> Profile:
            """Return the profile with other sizes of an update; the number of ranks stays that of ``launch``."""
            return self.model_copy(update={"train": self.train.model_copy(update=shape.train_keys())})
