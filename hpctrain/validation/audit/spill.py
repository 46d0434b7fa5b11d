"""Records that are compared by a key, in bounded memory: many of them lie in files, part by part. No torch here."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from hpctrain.errors import SiteError

PART_BYTES = 64 * 2**20
"""Size of the records that are compared at a time [byte]."""


class Spill:
    """Records of a 64-bit key and other fields. Records with one key come back together.

    Parameters
    ----------
    dtype : numpy dtype
        Structured; its field ``key`` is uint64.
    expected : int
        How many records there will be, about. If they fit into `part_bytes`, they stay in memory; otherwise they lie in
        files below the folder for temporary files (``TMPDIR``), which are removed at the end.
    part_bytes : int
    """

    def __init__(self, dtype: np.dtype, expected: int, part_bytes: int = PART_BYTES) -> None:
        self.dtype = np.dtype(dtype)
        self.num_parts = max(1, -(-expected * self.dtype.itemsize // part_bytes))
        self._kept: list[np.ndarray] = []
        self._folder = Path(tempfile.mkdtemp(prefix="hpctrain-audit-")) if self.num_parts > 1 else None

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, records: np.ndarray) -> None:
        """Add records (n,).

        Raises
        ------
        SiteError
            The folder for temporary files is full.
        """
        if self._folder is None:
            self._kept.append(records)
            return
        part = records["key"] % np.uint64(self.num_parts)
        order = np.argsort(part, kind="stable")
        ends = np.searchsorted(part[order], np.arange(self.num_parts), side="right")
        try:
            for number, (start, end) in enumerate(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)):
                if end > start:
                    with open(self._path(number), "ab") as stream:
                        stream.write(records[order[start:end]].tobytes())
        except OSError as error:
            raise SiteError(
                f"{self._folder}: cannot be written ({error.strerror}); name a folder with more room in TMPDIR"
            ) from error

    def parts(self) -> Iterator[np.ndarray]:
        """Yield the records of each part, sorted by key; all records of a key are in one part."""
        if self._folder is None:
            records = np.concatenate(self._kept) if self._kept else np.zeros(0, self.dtype)
            yield records[np.argsort(records["key"], kind="stable")]
            return
        for number in range(self.num_parts):
            if (path := self._path(number)).exists():
                records = np.fromfile(path, self.dtype)
                yield records[np.argsort(records["key"], kind="stable")]

    def _path(self, number: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{number:05d}"


def groups(key: np.ndarray) -> np.ndarray:
    """Return where the groups of equal keys begin in sorted keys (n,), and n at the end."""
    if not len(key):
        return np.zeros(1, dtype=np.int64)
    return np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1, [len(key)]])
