"""The contract of a kind of data: what one sample is, and how it comes to the device clean. No torch here.

A kind is an instance of a subclass of :class:`Kind`, named ``KIND`` in its module. Its methods import torch when they
are called, because ``check`` reads the `section` on a login node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hpctrain.errors import DataError
from hpctrain.profile.inspection import Inspection
from hpctrain.words import Words

if TYPE_CHECKING:
    import numpy as np
    import torch

    from hpctrain.metrics.read import History
    from hpctrain.profile.judge import Judge
    from hpctrain.profile.sections.data import DataSection
    from hpctrain.samples.protocols import Batch, Facts, Samples

NO_WEIGHT = "no weight"
"""Reason why a sample carries no weight, where its kind gives no better one."""


@dataclass(frozen=True)
class Assumed:
    """What is assumed about data that do not exist yet.

    Parameters
    ----------
    facts : Facts or None
        None if nothing can be assumed; then the memory is not estimated.
    source : str
        Where the facts come from, in words.
    num_samples : int or None
        Number of samples, where the profile simulates them.
    """

    facts: Facts | None
    source: str
    num_samples: int | None = None


class Kind:
    """A kind of data. A subclass must define `name`, `section`, :meth:`open`, :meth:`facts` and :meth:`read_facts`.

    Attributes
    ----------
    name : str
        The name by which families ask for this kind.
    section : type
        Subclass of :class:`~hpctrain.profile.sections.data.DataSection`: the keys of ``data`` in the profile.
    words : Words
        What users call a sample, and what the counts of bad values mean.
    bad_sums : tuple of str
        Names of the sums of :meth:`count_bad`; the first one counts bad values, the last one samples without weight.
    bad_noun, bad_advice : str
        What users call bad values, and which option makes them an error and what to do; for the error that names them.
    remedies : mapping of str to str
        What to do about each reason of :meth:`reasons`.
    main_columns : tuple of str
        Columns of a file whose hashes the report shows.
    array_names : tuple of str
        Names of the arrays that :meth:`from_arrays` understands; empty if this kind is read from files only.
    bounded_by : str or None
        Key of the profile that bounds how many samples are in memory, such as ``data.max_rows``.
    coordinate : str or None
        Name of the tensor of a batch that says where along its axis a value is, such as a wavelength.
    only_hdf5 : bool
        Whether files must be HDF5; otherwise :meth:`open` finds out what they are.
    """

    name: ClassVar[str]
    section: ClassVar[type[DataSection]]
    words: ClassVar[Words] = Words()
    bad_sums: ClassVar[tuple[str, ...]] = ()
    bad_noun: ClassVar[str] = "bad values"
    bad_advice: ClassVar[str] = "the profile refuses them; repair them"
    remedies: ClassVar[Mapping[str, str]] = {}
    main_columns: ClassVar[tuple[str, ...]] = ()
    array_names: ClassVar[tuple[str, ...]] = ()
    only_hdf5: ClassVar[bool] = True
    bounded_by: ClassVar[str | None] = None
    coordinate: ClassVar[str | None] = None

    def judge(self, judge: Judge) -> None:
        """Report problems of the ``data`` section that one key alone does not show."""

    def open(self, data: DataSection, base: Path | None = None) -> Samples:
        """Open the files of a ``data`` section as one set.

        Raises
        ------
        DataError
            Files are missing, damaged or do not fit together; the message names all of them.
        """
        raise NotImplementedError

    def from_arrays(self, card: Mapping[str, Any], columns: Mapping[str, Any]) -> Samples:
        """Return samples that are arrays in memory as a set, cleaned by the same rules as those of files.

        Parameters
        ----------
        card : mapping
            Card of the model that will read them.
        columns : mapping
            Arrays by the names that the files of this kind use; an astropy Table is such a mapping.

        Raises
        ------
        DataError
            Arrays are missing or do not fit together; the message names all of them.
        """
        raise DataError(f"{self.words.many} are read from files only; give the names of the files")

    def facts(self, samples: Samples, rows: np.ndarray) -> Facts:
        """Return the facts about these rows (n,) that size a network.

        Raises
        ------
        DataError
            Nothing can be learned from these rows.
        """
        raise NotImplementedError

    def read_facts(self, values: Mapping[str, Any]) -> Facts:
        """Return the facts of a model's card."""
        raise NotImplementedError

    def assumed(self, data: DataSection) -> Assumed:
        """Return what to assume for the memory estimate where there are no data yet."""
        return Assumed(None, "nothing")

    def inspect(self, samples: Samples, rows: np.ndarray, data: DataSection) -> Inspection:
        """Look at a sample of the training rows, and report whether the data can be right."""
        return Inspection(num_spectra=len(rows))

    def bytes_per_sample(self, facts: Facts) -> int:
        """Return the memory of one sample as it is read [byte]."""
        raise NotImplementedError

    def shape(self, samples: Samples) -> dict[str, int]:
        """Return numbers that must not change during a run, such as the number of pixels; for state and events."""
        return {}

    def counts(self, samples: Samples) -> dict[str, int]:
        """Return other numbers about the files, for the event ``data``."""
        return {}

    def preparation(self, card: Mapping[str, Any]) -> Callable[[Batch], Batch]:
        """Return the function that cleans and normalises a batch on its device.

        Parameters
        ----------
        card : mapping
            Card of the model, or :attr:`~hpctrain.profile.sections.data.DataSection.card_entries` of a profile.
        """
        return lambda batch: batch

    def augmentation(self, data: DataSection) -> Callable[[Batch], Batch] | None:
        """Return the function that changes prepared training batches at random; None if the profile asks for none."""
        return None

    def count_bad(self, batch: Batch) -> torch.Tensor:
        """Return the sums `bad_sums` over a prepared batch, shape (len(bad_sums),), float64; padding does not count."""
        return batch.row.new_zeros(len(self.bad_sums)).double()

    def describe_bad(self, samples: Samples, rows: np.ndarray) -> list[str]:
        """Return a line for each of these rows that has bad values: file, row, object, values."""
        return []

    def reasons(self, samples: Samples, rows: np.ndarray, data: DataSection) -> list[str]:
        """Return, for each of these rows without weight in training, the reason."""
        return [NO_WEIGHT] * len(rows)

    def caveats(self, history: History) -> list[str]:
        """Return what the records of a run say about its data that a reader of the report should know first."""
        return []

    def fake(self, facts: Facts, num_samples: int) -> Batch | None:
        """Return a prepared batch of any values for the memory estimate; None if memory cannot be estimated."""
        return None

    def make(self, path: Path, simulate: Any) -> None:
        """Simulate a file of samples; `simulate` is the section ``data.simulate``."""
        raise DataError(f"{self.words.many} cannot be simulated; remove data.simulate")

    def memory_copies(self) -> Any | None:
        """Return the module that keeps decoded samples in memory (``data.cache: ram``); None if this kind has none."""
        return None
