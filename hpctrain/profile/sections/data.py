"""The ``data`` section, as far as it is the same for all kinds of data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from hpctrain.profile.sections.base import PathText, Section, Switch

SAMPLE_ORDER = "which samples each step sees depends on it"
"""Reason why a resumed run cannot change a key that decides the order."""

DEFAULT_READER_THREADS = 2
"""Reader threads of a rank that has enough cores."""


class SplitSection(Section):
    """The objects to train on and the objects to hold out. A hash of the object id decides, so an object never changes
    sides."""

    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of objects held out for evaluation during training."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of objects kept for a final test; neither training nor evaluation uses them."""
    salt: str = "hpctrain"
    """Any text; a different text gives a different split."""


class DataSection(Section):
    """The data to use, and how to read them: what all kinds of data have in common."""

    fixed: ClassVar[Mapping[str, str]] = {
        "simulate": "these data were made before the first step",
        "split": "samples that were held out so far would be trained on",
        "shuffle_window": SAMPLE_ORDER,
    }
    """Key, or section, to the reason why a resumed run cannot change it; a kind adds its own."""

    files: Annotated[list[PathText], Field(min_length=1)]
    """HDF5 files or glob patterns; several make one set. Paths are relative to the directory in which you call the
    command. With `stage` and ``hpctrain[remote]`` also every address that fsspec supports, such as ``https://...`` and
    ``s3://bucket/*.h5``; credentials come from the environment."""
    stage: PathText | None = None
    """Folder on a disk of the compute node, such as ``${TMPDIR}``. The job copies the files there before training, once
    per node. Variables have their values on the compute node."""
    stage_required: Switch = False
    """End the job if files cannot be staged (disk full, no permission, a failing disk), instead of reading the
    originals. Always on for remote files."""
    cache: Literal["none", "ram"] = "none"
    """``ram`` decodes the training and validation spectra into memory before the first step, one copy per node;
    compressed files are then shuffled as a whole too. The memory is freed however the job ends."""
    simulate: None = None
    """Not for this kind of data."""
    split: SplitSection = SplitSection()
    reader_threads: Annotated[int, Field(ge=0, le=64)] | None = None
    """Threads that prefetch batches; 0 reads in the training loop. If unset: 2, or 1 where `launch.cpus_per_rank` is 1.
    The batches are the same for any number."""
    prefetch_batches: Annotated[int, Field(ge=1, le=64)] = 4
    """Micro-batches that each rank prefetches."""
    shuffle_window: Annotated[int, Field(ge=1)] = 4096
    """Number of spectra of a window in which compressed files are shuffled; each rank keeps two decoded windows in
    memory. Uncompressed files are shuffled as a whole."""

    @property
    def max_samples(self) -> int | None:
        """Largest number of training samples; None for all."""
        return None

    @property
    def sorted_batches(self) -> int:
        """Number of micro-batches within which the samples are sorted by length; 0 sorts none."""
        return 0

    @property
    def refuses_bad_values(self) -> bool:
        """Whether a bad value in the data ends the run, instead of being masked and counted."""
        return False

    def unwritten_keys(self) -> list[tuple[str, ...]]:
        """Return the keys whose defaults the run's own profile must not hold, relative to this section."""
        return []

    @property
    def card_entries(self) -> dict[str, Any]:
        """Entries of the model's card that say how to prepare samples for the model, as plain JSON values."""
        return {}
