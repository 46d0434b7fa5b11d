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


BY_OBJECT, BY_SKY, BY_FIELD, BY_TIME = "object", "sky", "field", "time"


class SplitSection(Section):
    """The objects to train on and the objects to hold out. A hash of the object id decides, so an object never changes
    sides; `by` says which objects stay together."""

    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of objects held out for evaluation during training. With `folds` it counts only where `fold` is unset."""
    test: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of objects kept for a final test; neither training nor evaluation uses them, and no fold has them."""
    salt: str = "hpctrain"
    """Any text; a different text gives a different split."""
    by: Literal["object", "sky", "field", "time"] = BY_OBJECT
    """What stays together on one side: an ``object``; all objects of a cell of the ``sky``; all objects of a ``field``
    such as a plate; or objects of neighbouring ``time``, of which the latest are the test and those before them are
    the validation. All rows of an object go where its first row goes."""
    ra: PathText = "ra"
    """Dataset (N,) of the right ascension [deg], for ``by: sky``."""
    dec: PathText = "dec"
    """Dataset (N,) of the declination [deg], for ``by: sky``."""
    nside: Annotated[int, Field(ge=1, le=8192)] = 16
    """Size of the HEALPix cells (nested scheme), for ``by: sky``: a power of two; 16 means cells of 3.7 degrees."""
    column: PathText | None = None
    """Dataset (N,) of the field (numbers or texts) or of the time (numbers), for ``by: field`` and ``by: time``."""
    stratify: PathText | None = None
    """Dataset (N,), such as the class or the redshift: all sides get the same share of each of its values, or of each
    tenth of them if it has more than 20 different numbers. Only for ``by: object``. New data can then move objects."""
    folds: Annotated[int, Field(ge=2, le=100)] | None = None
    """Cut the objects into so many folds of about the same size for cross-validation."""
    fold: Annotated[int, Field(ge=0)] | None = None
    """The fold, from 0, that is held out for evaluation; if unset, a share of `validation` of all but `test_fold`."""
    test_fold: Annotated[int, Field(ge=0)] | None = None
    """The fold, from 0, that is kept for a final test."""
    results: Literal["validation", "test"] = "validation"
    """The side that the finished model describes in ``results/``."""

    @property
    def validates(self) -> bool:
        """Whether some objects shall be held out for evaluation."""
        return self.validation > 0 or self.fold is not None

    @property
    def held_out(self) -> float:
        """Share of objects that are not trained on, about."""
        return self.validation_share + self.test_share

    @property
    def test_share(self) -> float:
        """Share of objects kept for a final test, about."""
        return self.test + (0.0 if self.test_fold is None or self.folds is None else (1 - self.test) / self.folds)

    @property
    def validation_share(self) -> float:
        """Share of objects held out for evaluation during training, about."""
        if self.fold is not None and self.folds is not None:
            return (1 - self.test) / self.folds
        return self.validation if self.folds is None else self.validation * (1 - self.test_share)


class OversampleSection(Section):
    """Repeat training samples whose value of a column is rare, so that all values are about equally common."""

    column: PathText
    """Dataset (N,) of texts or whole numbers, such as the class."""
    most: Annotated[float, Field(gt=1, le=1000)] = 10.0
    """How often a sample is used in an epoch at most."""


class ReplaySection(Section):
    """Train on only a share of the objects that an earlier model was trained on, and on all others.
    ``hpctrain pipeline`` sets this where a stage has `replay`."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the old objects to train on again; the hash of the identifier decides which ones."""
    seen: PathText
    """File of numpy (.npy) with the identifiers of the old objects, int64."""


class DataSection(Section):
    """The data to use, and how to read them: what all kinds of data have in common."""

    fixed: ClassVar[Mapping[str, str]] = {
        "simulate": "these data were made before the first step",
        "split": "samples that were held out so far would be trained on",
        "shuffle_window": SAMPLE_ORDER,
        "oversample": SAMPLE_ORDER,
        "replay": SAMPLE_ORDER,
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
    oversample: OversampleSection | None = None
    """Repeat rare training samples; an epoch then has more samples. Held-out samples are never repeated."""
    replay: ReplaySection | None = None
    """Leave out a part of the training objects that an earlier model has seen. Held-out objects are never left out."""
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
