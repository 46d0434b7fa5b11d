"""Samples that fit into memory, as arrays by name: all that a kind with small files needs. N samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hpctrain.samples.labels import read_whole_column, take_labels
from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class ArrayBatch:
    """Some samples of :class:`ArraySamples`.

    Parameters
    ----------
    columns : mapping of str to Tensor, shape (N, ...)
        Zero in padding rows.
    row : Tensor, shape (N,), int64
        Row in the whole set; -1 is a padding row.
    target_id : Tensor, shape (N,), int64
        Identifier of the object; -1 in padding rows.
    labels : mapping of str to Tensor, shape (N,)
        What the family asked for, such as classes to learn; -1 or NaN where there is none.
    """

    columns: Mapping[str, Tensor]
    row: Tensor
    target_id: Tensor
    labels: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    @property
    def weight(self) -> Tensor:
        """1 for a sample and 0 for a padding row, shape (N,), float32."""
        return (self.row != PADDING_ROW).float()

    def tensors(self) -> dict[str, Tensor]:
        """Return the columns: what a network reads."""
        return dict(self.columns)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> Self:
        """Return a batch in which these columns are replaced."""
        return replace(self, columns={**self.columns, **tensors})

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Return the batch on `device`."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked host memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def everything(self) -> list[Tensor]:
        """Return all tensors of the batch."""
        return [*self.columns.values(), self.row, self.target_id, *self.labels.values()]

    def _each(self, change: Any) -> Self:
        return replace(
            self,
            columns={name: change(tensor) for name, tensor in self.columns.items()},
            row=change(self.row),
            target_id=change(self.target_id),
            labels={name: change(tensor) for name, tensor in self.labels.items()},
        )


class ArraySamples:
    """Samples of one or several files, read into memory as a whole; see :class:`~hpctrain.samples.protocols.Samples`.

    Parameters
    ----------
    files : sequence of (path, number of rows)
        The files, in the order of their rows.
    target_id : ndarray, shape (N,), int64
        Identifier of the object of each sample.
    columns : mapping of str to ndarray, shape (N, ...)
        Values by name.
    notes : sequence of str
        Lines about these files that a user should know.
    """

    decoded_bytes = 0
    is_prepared_ahead = False
    batches_together = 1

    def __init__(
        self,
        files: Sequence[tuple[Path, int]],
        target_id: np.ndarray,
        columns: Mapping[str, np.ndarray],
        notes: Sequence[str] = (),
    ) -> None:
        self.target_id = np.ascontiguousarray(target_id, dtype=np.int64)
        self.columns = dict(columns)
        self.notes = list(notes)
        self.labels: Mapping[str, np.ndarray] = {}
        self._files = list(files)
        self._starts = np.cumsum([0, *(count for _, count in files)])
        self.copy_of: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.target_id)

    def read(self, rows: np.ndarray, pin: bool = False) -> ArrayBatch:
        """Return these rows (n,) in their order; -1 gives a padding row."""
        padding = rows == PADDING_ROW
        at = np.where(padding, 0, rows)
        columns = {}
        for name, values in self.columns.items():
            taken = values[at]
            taken[padding] = 0
            columns[name] = torch.from_numpy(taken)
        target_id = np.where(padding, -1, self.target_id[at])
        labels = take_labels(self.labels, rows)
        batch = ArrayBatch(columns, torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(target_id), labels)
        return batch.pin_memory() if pin else batch

    def column(self, name: str) -> np.ndarray:
        """Return a column of the files with one number or text per sample, shape (N,).

        Raises
        ------
        DataError
            A file has no such column; the message names all of these files.
        """
        return read_whole_column(self._files, name)

    def usable(self, rows: np.ndarray) -> np.ndarray:
        """Return that each of these rows can carry weight."""
        return np.ones(len(rows), dtype=bool)

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return that all samples are equally long."""
        return np.ones(len(rows), dtype=np.int64)

    def blocks(self, rows: np.ndarray) -> np.ndarray:
        """Return that nothing is decoded block by block."""
        return np.arange(len(rows))

    def keep_window(self, num_rows: int, num_readers: int = 1) -> None:
        """Do nothing: everything is in memory."""

    def prepare(self, rows: np.ndarray) -> None:
        """Do nothing: everything is in memory."""

    def batches_ahead(self, batch_size: int) -> int:
        """Return 0: nothing has to be prepared."""
        return 0

    def locate(self, row: int) -> tuple[Path, int]:
        """Return the file that holds a row of the set, and the row in that file."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._files[number][0], row - int(self._starts[number])

    def fingerprint(self) -> dict[str, Any]:
        """Return names, sizes and times of the files; for copies, those of the originals."""
        if self.copy_of is not None:
            return self.copy_of
        files = []
        for path, count in self._files:
            status = path.stat()
            files.append(
                {
                    "path": str(path.resolve()),
                    "bytes": status.st_size,
                    "modified_ns": status.st_mtime_ns,
                    "num_samples": count,
                }
            )
        return {"num_samples": len(self), "files": files}

    def close(self) -> None:
        """Do nothing: no file is open."""
