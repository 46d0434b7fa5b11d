"""A trained network, or a model of rounds, in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hpctrain.api.data import Asked, chosen_rows, open_samples, refuse_too_much, sort_data
from hpctrain.api.model import BATCH_SIZE, Model
from hpctrain.api.tables import table_of
from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.families.predictions import column_reader
from hpctrain.families.store import load_model
from hpctrain.profile.load import load_profile
from hpctrain.samples.loader import read_ahead
from hpctrain.samples.protocols import PADDING_ROW

if TYPE_CHECKING:
    from astropy.table import Table

    from hpctrain.profile.sections.data import DataSection
    from hpctrain.samples.protocols import Batch, Samples

_READER_THREADS = 2


class NetworkModel(Model):
    """A model of any family.

    Parameters
    ----------
    path : Path
        The weights.
    card : mapping
    device : str
    network : torch.nn.Module or RoundsModel
        In evaluation mode, on the device.

    Attributes
    ----------
    network : torch.nn.Module or RoundsModel
        For what this class does not offer.
    """

    def __init__(self, path: Path, card: Mapping[str, Any], device: str, network: Any) -> None:
        super().__init__(path, card, device)
        self.network = network

    @classmethod
    def load(cls, path: Path, device: str, checkpoint: str | None) -> NetworkModel:
        """Load the model of a run, a checkpoint or a folder; see :func:`hpctrain.load`."""
        has_gpu = torch.cuda.is_available()
        if device.startswith("cuda") and not has_gpu:
            raise ProfileError("load", [Problem("device", "cuda asked for, but torch sees no GPU; use auto or cpu")])
        device = ("cuda" if has_gpu else "cpu") if device == "auto" else device
        network, card = load_model(path, device, checkpoint)
        if not isinstance(network, torch.nn.Module):
            device = "cpu"  # models of rounds compute with numpy
        return cls(Path(card["weights"]), card, device, network)

    def _predict(self, asked: Asked, with_scores: bool) -> Table:
        with self._opened(asked) as samples:
            chosen = chosen_rows(asked.rows, len(samples))
            found: dict[str, np.ndarray] = {"target_id": samples.target_id[chosen], "row": chosen}
            if hasattr(samples, "redshift"):
                found["redshift"] = np.asarray(samples.redshift)[chosen]
            done = 0
            for batch, size in self._batches(samples, chosen, asked.batch_size):
                with torch.no_grad():
                    values = self._family.predictions(self.network, self.card, batch)
                for name, value in values.items():
                    if name not in found:
                        found[name] = np.empty((len(chosen), *value.shape[1:]), value.dtype)
                    found[name][done : done + size] = value[:size]
                done += size
            found |= self._family.add_columns(self.card, found, column_reader(samples, chosen))
        if with_scores:
            found |= self._family.scores(found, self.card)
        return table_of(found, self._family.columns_of(self.card), self._meta())

    def _reconstruct(self, asked: Asked) -> dict[str, np.ndarray]:
        pieces: dict[str, list[np.ndarray]] = {}
        num_bytes = 0
        with self._opened(asked) as samples:
            chosen = chosen_rows(asked.rows, len(samples))
            for batch, size in self._batches(samples, chosen, asked.batch_size):
                with torch.no_grad():
                    values = self._family.reconstructions(self.network, self.card, batch)
                for name, value in values.items():
                    pieces.setdefault(name, []).append(value[:size])
                    num_bytes += value[:size].nbytes
                refuse_too_much(num_bytes, len(chosen))
        return {name: np.concatenate(parts) for name, parts in pieces.items()} | {"row": chosen}

    @contextlib.contextmanager
    def _opened(self, asked: Asked) -> Iterator[Samples]:
        """Open the data, refuse those that do not fit the model, and close files that the user did not open."""
        given = sort_data(asked, self._kind)
        samples = open_samples(given, self._kind, self.card, self._section(), asked.columns)
        try:
            if difference := self.facts.difference(samples):
                raise DataError(
                    f"the {self._kind.words.many} do not fit the model: {difference}; "
                    "run `hpctrain ingest` with the grid of the training data"
                )
            yield samples
        finally:
            if given.samples is None:
                samples.close()

    def _section(self) -> DataSection | None:
        """Return the ``data`` section of the run that the weights belong to; None if they are alone."""
        for folder in self.path.absolute().parents[1:3]:  # RUN/model/..., RUN/checkpoints/step-.../...
            if (folder / "profile.yaml").is_file():
                return load_profile(folder / "profile.yaml").data
        return None

    def _batches(self, samples: Samples, rows: np.ndarray, batch_size: int | None) -> Iterator[tuple[Batch, int]]:
        """Yield batches of one size on the device, the last one filled up, and how many rows of each count."""
        size = min(BATCH_SIZE, max(1, len(rows))) if batch_size is None else batch_size
        if size < 1:
            raise DataError(f"batch_size: found {size}; must be 1 or more")
        starts = range(0, len(rows), size)
        requests = (_filled(rows[start : start + size], size) for start in starts)
        batches = read_ahead(samples, requests, _READER_THREADS, depth=2 * _READER_THREADS)
        with contextlib.closing(batches):
            for start, batch in zip(starts, batches, strict=True):
                yield batch.to(self.device), min(size, len(rows) - start)


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    """Fill up a short batch with padding, so that results do not depend on the number of rows."""
    return np.concatenate([rows, np.full(size - len(rows), PADDING_ROW, dtype=np.int64)])
