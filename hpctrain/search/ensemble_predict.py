"""``hpctrain search predict STUDY FILES``: apply the members of an ensemble, and mix their predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpctrain.errors import DataError
from hpctrain.families.held_out import HeldOut, NoResultsError
from hpctrain.families.labels.mixture import Mixture
from hpctrain.families.predictions import open_for, write_columns
from hpctrain.families.store import load_model
from hpctrain.profile.lookup import find_family, find_kind
from hpctrain.samples.loader import padded_requests, read_ahead
from hpctrain.samples.protocols import PADDING_ROW

_AHEAD = 4

Bar = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]
"""Shows progress: gets what is done and how many samples there are."""


def predict_ensemble(
    folder: Path,
    ensemble: Mapping[str, Any],
    files: Sequence[str],
    out: Path,
    bar: Bar,
    device: str = "cpu",
    batch_size: int = 256,
    threads: int = 2,
) -> str:
    """Write the columns of the mixture, as ``hpctrain predict`` writes those of one model; return what was written.

    Parameters
    ----------
    folder : Path
        Where ``ensemble.json`` is.
    ensemble : mapping
        What it holds.
    files : sequence of str
    out : Path
        ``*.h5``; written whole or not at all.
    bar : Bar
    device : str
    batch_size : int
    threads : int
        That read ahead, for each member.

    Raises
    ------
    DataError
        The files are not like the data of a member, or hold no sample.
    CheckpointError
        A member is absent or damaged.
    """
    runs = [folder / member["run"] for member in ensemble["members"]]
    models, cards = zip(*(load_model(run, device) for run in runs), strict=True)
    samples = [open_for(run, card, list(files)) for run, card in zip(runs, cards, strict=True)]
    if any(len(each) != len(samples[0]) for each in samples):
        raise DataError(
            f"{', '.join(files)}: the members read different numbers of samples; their data sections differ"
        )
    kind = find_kind(find_family(cards[0]["family"]).kind)
    mixture = Mixture(models, [member["weight"] for member in ensemble["members"]])
    prepare = [kind.preparation(card) for card in cards]
    rows = np.arange(len(samples[0]), dtype=np.int64)
    if not len(rows):
        raise NoResultsError("there is nothing to predict")
    parts: dict[str, list[np.ndarray]] = {}
    with bar("predicting", len(rows)) as tick:
        done = 0
        for batches in _read(samples, rows, batch_size, threads):
            kept = batches[0].row.numpy() != PADDING_ROW
            ready = [one(batch.to(torch.device(device))) for one, batch in zip(prepare, batches, strict=True)]
            for name, values in mixture.columns(ready).items():
                parts.setdefault(name, []).append(values[kept])
            done += int(kept.sum())
            tick(done)
        asked = HeldOut(samples[0], rows, prepare[0], batch_size, torch.device(device), tick)
        write_columns(out, cards[0], {name: np.concatenate(values) for name, values in parts.items()}, asked)
    words = kind.words.many if done != 1 else kind.words.one
    return f"{out}: predictions of {done:,} {words} by {len(models)} models"


def _read(samples: Sequence[Any], rows: np.ndarray, batch_size: int, threads: int) -> Iterator[tuple[Any, ...]]:
    """Yield the same samples for each member, who may use other columns of the files."""
    return zip(*(read_ahead(each, padded_requests(rows, batch_size), threads, _AHEAD) for each in samples), strict=True)
