"""Columns of the data files of a run, at the rows of its held-out samples. N samples, R rows."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError, ProfileError
from hpctrain.rundir import RunDir, read_json


class RunColumns:
    """The data files of a run. Nothing is opened before the first column is read.

    Parameters
    ----------
    run : RunDir
    """

    def __init__(self, run: RunDir) -> None:
        self.run = run

    def names(self) -> list[str]:
        """Return the names of columns with one value per sample, sorted; empty for files that give no names."""
        import h5py

        found: set[str] | None = None
        for path in self._paths():
            if not h5py.is_hdf5(path):
                return []
            with h5py.File(path, "r") as file:
                own: set[str] = set()
                length = max(
                    (len(each) for each in file.values() if isinstance(each, h5py.Dataset) and each.ndim), default=0
                )
                file.visititems(lambda name, each, own=own, length=length: _add(own, name, each, length))
            found = own if found is None else found & own
        return sorted(found or ())

    def read(self, name: str, row: np.ndarray, target_id: np.ndarray) -> np.ndarray:
        """Return a column at some rows.

        Parameters
        ----------
        name : str
        row, target_id : ndarray, shape (R,), int64
            Rows in the files, and the objects that they must hold.

        Returns
        -------
        ndarray, shape (R,)

        Raises
        ------
        DataError
            There is no such column, the files are gone, or they hold other objects at these rows.
        """
        if len(row) and row.min() < 0:
            raise DataError(
                f"{self.run.path}: an older version of hpctrain wrote its results, which do not say the rows of the "
                f"data files; so {name} is not known. Train again"
            )
        samples = self._samples
        if len(row) and (row.max() >= len(samples) or not np.array_equal(samples.target_id[row], target_id)):
            raise DataError(
                f"{self.run.path}: the data files have changed since the training: {self._changed()}. Columns of other "
                "objects would be compared; put the old files back, or train again"
            )
        return np.asarray(samples.column(name))[row]

    @cached_property
    def _samples(self) -> Any:
        from hpctrain.profile.load import load_profile
        from hpctrain.profile.lookup import find_family, find_kind

        try:
            profile = load_profile(self.run.profile)
        except (ProfileError, OSError) as error:
            raise DataError(f"{self.run.profile}: cannot be read, so the data files are not known ({error})") from error
        return find_kind(find_family(profile.model.family).kind).open(profile.data)

    def _paths(self) -> list[Path]:
        from hpctrain.profile.load import load_profile
        from hpctrain.samples.find import find_files

        try:
            return find_files(load_profile(self.run.profile).data.files, Path.cwd())
        except (ProfileError, OSError, DataError):
            return []

    def _changed(self) -> str:
        """Return which files differ from those that the submission recorded, as far as that is known."""
        recorded = (read_json(self.run.provenance) or {}).get("data") or []
        changed = []
        for entry in recorded if isinstance(recorded, list) else []:
            path = Path(str(entry.get("path"))) if isinstance(entry, dict) else None
            if path is not None and path.is_file() and path.stat().st_size != entry.get("bytes"):
                changed.append(f"{path} has {path.stat().st_size:,} bytes and had {json.dumps(entry.get('bytes'))}")
        return "; ".join(changed[:5]) or "they hold other objects at the same rows"


def _add(found: set[str], name: str, each: Any, length: int) -> None:
    if getattr(each, "shape", ()) == (length,):
        found.add(name)
