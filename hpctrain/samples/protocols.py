"""What the trainer asks of the samples of any kind. N samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self

PADDING_ROW = -1
"""Value of :attr:`Batch.row` for a padding row, which carries no weight."""


class Batch(Protocol):
    """Some samples; a frozen dataclass of tensors whose first axis is N.

    Attributes
    ----------
    row : Tensor, shape (N,), int64
        Row in the whole set; :data:`PADDING_ROW` is a padding row.
    target_id : Tensor, shape (N,), int64
        Identifier of the object; -1 in padding rows.
    labels : mapping of str to Tensor, shape (N,)
        The rows of :attr:`Samples.labels`; -1 or NaN where a label is missing, as in padding rows.
    """

    row: torch.Tensor
    target_id: torch.Tensor
    labels: Mapping[str, torch.Tensor]

    def __len__(self) -> int: ...

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Return the batch on `device`."""

    def pin_memory(self) -> Self:
        """Return the batch in page-locked host memory."""

    def everything(self) -> list[torch.Tensor]:
        """Return all tensors of the batch."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors that a network reads, by name; the inputs of an exported network."""

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Return a batch in which these tensors are replaced."""


class Samples(Protocol):
    """An open set of samples, read by row. Safe to read from many threads and across a fork.

    Attributes
    ----------
    target_id : ndarray, shape (N,), int64
        Identifier of the object of each sample.
    notes : list of str
        Lines about these files that a user should know.
    labels : mapping of str to ndarray, shape (N,)
        Values that each batch carries for its rows, which the family sets (:meth:`Family.labels`); empty by default.
    copy_of : dict or None
        Fingerprint of the originals, if these files are copies.
    decoded_bytes : int
        Memory of each sample that is kept decoded [byte]; 0 if nothing has to be decoded.
    is_prepared_ahead : bool
        Whether :meth:`prepare` has anything to do at the moment.
    batches_together : int
        Number of batches to prepare together.
    """

    target_id: np.ndarray
    notes: list[str]
    labels: Mapping[str, np.ndarray]
    copy_of: dict[str, Any] | None
    decoded_bytes: int
    is_prepared_ahead: bool
    batches_together: int

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray, pin: bool = False) -> Batch:
        """Read these rows (n,) in their order; -1 gives a padding row. `pin` reads into page-locked memory."""

    def column(self, name: str) -> np.ndarray:
        """Return a column of the files with one number or text per sample (N,); a DataError if there is none."""

    def usable(self, rows: np.ndarray) -> np.ndarray:
        """Return, for each of these rows (n,), whether it can carry weight, as far as metadata tell; bool."""

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return the length of each of these rows (n,), int64; needed where ``DataSection.sorted_batches`` is above
        0."""

    def blocks(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices in the sorted `rows` at which the blocks begin that are decoded as a whole; int64."""

    def keep_window(self, num_rows: int, num_readers: int = 1) -> None:
        """Keep two windows of `num_rows` decoded samples, which `num_readers` ranks share."""

    def prepare(self, rows: np.ndarray) -> None:
        """Begin to decode rows, or to prefetch them from a slow disk, before they are read."""

    def batches_ahead(self, batch_size: int) -> int:
        """Return how many batches ahead of reading a batch should be prepared."""

    def locate(self, row: int) -> tuple[Path, int]:
        """Return the file that holds a row of the set, and the row in that file."""

    def fingerprint(self) -> dict[str, Any]:
        """Return values that identify these files without reading them."""

    def close(self) -> None:
        """Close the open files; a later read opens them again."""


@runtime_checkable
class Facts(Protocol):
    """Facts about the samples that size a network; they are part of the card of a model."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Read back what :meth:`to_json` returned."""

    def difference(self, samples: Any) -> str | None:
        """Return why a model made for these facts cannot read `samples`; None if it can."""
