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
from hpctrain.families.labels.parts import Dropped, has_dropout
from hpctrain.families.predictions import open_for, write_columns
from hpctrain.families.store import load_model
from hpctrain.profile.lookup import find_family, find_kind
from hpctrain.samples.loader import padded_requests, read_ahead
from hpctrain.samples.protocols import PADDING_ROW
from hpctrain.search.ensemble_held_out import difference_of_labels

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
    passes: int = 0,
    seed: int = 0,
    parts: bool = False,
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
    passes : int
        Compute the only member so many times with its dropout on, and mix the passes.
    seed : int
        Of the dropout.
    parts : bool
        Also write the aleatoric and the epistemic part of each uncertainty.

    Raises
    ------
    DataError
        The files are not like the data of a member, or hold no sample; or members predict other labels than the first,
        or a member of which several passes are wanted has no dropout.
    CheckpointError
        A member is absent or damaged.
    """
    runs = [folder / member["run"] for member in ensemble["members"]]
    models, cards = zip(*(load_model(run, device) for run in runs), strict=True)
    refuse_other_labels(runs, cards)
    if passes:
        refuse_without_dropout(runs[0], models[0])
    samples = [open_for(run, card, list(files)) for run, card in zip(runs, cards, strict=True)]
    if any(len(each) != len(samples[0]) for each in samples):
        raise DataError(
            f"{', '.join(files)}: the members read different numbers of samples; their data sections differ"
        )
    kind = find_kind(find_family(cards[0]["family"]).kind)
    weights = [member["weight"] for member in ensemble["members"]]
    if passes:
        models, weights = [Dropped(models[0], seed, number) for number in range(passes)], [1 / passes] * passes
    mixture = Mixture(models, weights, parts)
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
            ready = ready * passes if passes else ready
            for name, values in mixture.columns(ready).items():
                parts.setdefault(name, []).append(values[kept])
            done += int(kept.sum())
            tick(done)
        asked = HeldOut(samples[0], rows, prepare[0], batch_size, torch.device(device), tick)
        write_columns(out, cards[0], {name: np.concatenate(values) for name, values in parts.items()}, asked)
    words = kind.words.many if done != 1 else kind.words.one
    how = f"{passes} passes with dropout" if passes else f"{len(models)} models"
    return f"{out}: predictions of {done:,} {words} by {how}"


def refuse_other_labels(runs: Sequence[Path], cards: Sequence[Mapping[str, Any]]) -> None:
    """Refuse models whose predictions cannot be mixed.

    Raises
    ------
    DataError
        A model predicts no labels, or other ones than the first.
    """
    first = cards[0]["section"].get("labels")
    for run, card in zip(runs, cards, strict=True):
        labels = card["section"].get("labels")
        if not labels:
            raise DataError(f"{run}: the family {card['family']} predicts no labels, so there is nothing to mix")
        if reason := difference_of_labels(labels, first):
            raise DataError(f"{run}: cannot be mixed with {runs[0]}: {reason}")


def refuse_without_dropout(run: Path, model: Any) -> None:
    """Refuse a model of which all passes would be the same.

    Raises
    ------
    DataError
        It has no layer with dropout.
    """
    if not has_dropout(model):
        raise DataError(
            f"{run}: has no dropout, so all passes would be the same. Train with model.dropout above 0, which "
            "light_curve_transformer has, or mix several runs with --ensemble"
        )


def _read(samples: Sequence[Any], rows: np.ndarray, batch_size: int, threads: int) -> Iterator[tuple[Any, ...]]:
    """Yield the same samples for each member, who may use other columns of the files."""
    return zip(*(read_ahead(each, padded_requests(rows, batch_size), threads, _AHEAD) for each in samples), strict=True)
