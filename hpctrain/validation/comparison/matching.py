"""The rows that every run held out: nothing that a run trained on may judge it. R rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from hpctrain.errors import DataError
from hpctrain.profile.sections.data import SplitSection
from hpctrain.samples.split import TRAIN, assign_split
from hpctrain.validation.comparison.background import recorded_files
from hpctrain.validation.comparison.entrants import Entrant

FEWEST = 20
"""Smallest number of objects to compare models on."""
_NAMED = 5


@dataclass(frozen=True)
class Matched:
    """Runs at the same rows, in the same order.

    Parameters
    ----------
    entrants : tuple of Entrant
    num_objects : int
    notes : tuple of str
        What a reader must know about the choice of the rows.
    """

    entrants: tuple[Entrant, ...]
    num_objects: int
    notes: tuple[str, ...]


def match(entrants: Sequence[Entrant], shared: bool = False) -> Matched:
    """Return the runs at the rows that all of them held out.

    Parameters
    ----------
    entrants : sequence of Entrant
        At least two.
    shared : bool
        Whether runs with different splits may be compared on the objects that all of them held out.

    Raises
    ------
    DataError
        The runs held out different objects, or too few are shared.
    """
    ids = [np.unique(each.judged.target_id) for each in entrants]
    common = ids[0]
    for other in ids[1:]:
        common = np.intersect1d(common, other, assume_unique=True)
    notes = []
    if any(len(own) != len(common) for own in ids):
        trained = _trained_on(entrants, ids)
        if trained and not shared:
            raise DataError(_refusal(entrants, ids, common))
        left = len(np.unique(np.concatenate(ids))) - len(common)
        if trained:
            notes.append(f"the splits differ: only the {len(common):,} objects that all runs held out count")
        else:
            notes.append(f"{left:,} held-out objects do not count: not every run has a prediction for them")
    if len(common) < FEWEST:
        raise DataError(
            f"the runs share {len(common):,} held-out objects; it takes {FEWEST} to compare them. Train them with the "
            "same data.files and data.split"
        )
    rows, how = _rows(entrants, common)
    notes += [how] if how else []
    return Matched(tuple(each.take(own) for each, own in zip(entrants, rows, strict=True)), len(common), tuple(notes))


def _trained_on(entrants: Sequence[Entrant], ids: Sequence[np.ndarray]) -> bool:
    """Return whether one run may have trained on what another one held out."""
    together = np.unique(np.concatenate(ids))
    return any(
        (extra := np.setdiff1d(together, own, assume_unique=True)).size > 0 and not _held_out(each, extra, entrants)
        for each, own in zip(entrants, ids, strict=True)
    )


def _held_out(entrant: Entrant, target_id: np.ndarray, entrants: Sequence[Entrant]) -> bool:
    """Return whether the split of a run holds out all of these objects, as far as the split alone tells."""
    if entrant.folds is not None:
        return False
    splits = [each.judged.card.get("split") for each in entrants]
    files = {str(recorded_files(each.judged.run)) for each in entrants}
    own = entrant.judged.card.get("split")
    if all(split == own for split in splits) and len(files) == 1 and own is not None:
        return True
    try:
        split = SplitSection.model_validate(own)
    except ValidationError:
        return False
    if split.by != "object" or split.stratify is not None:
        return False
    return not (assign_split(target_id, split) == TRAIN).any()


def _refusal(entrants: Sequence[Entrant], ids: Sequence[np.ndarray], common: np.ndarray) -> str:
    lines = [
        f"the runs held out different objects; they share {len(common):,}. An object that a run trained on cannot "
        "judge it:"
    ]
    lines += [
        f"  {each.name} held out {len(own):,}{_split_words(each, entrants[0])}"
        for each, own in zip(entrants, ids, strict=True)
    ]
    if len(common) >= FEWEST:
        lines.append(
            f"  compare on the {len(common):,} shared objects with --shared, or train with the same data.split"
        )
    else:
        lines.append(f"  train them with the same data.split: it takes {FEWEST} shared objects to compare runs")
    return "\n".join(lines)


def _split_words(entrant: Entrant, first: Entrant) -> str:
    """Return how the split of a run differs from that of the first one."""
    own, other = entrant.judged.card.get("split") or {}, first.judged.card.get("split") or {}
    apart = [f"{key} {own.get(key)}" for key in {**other, **own} if own.get(key) != other.get(key)]
    return f" (data.split: {', '.join(apart[:_NAMED])})" if apart else ""


def _rows(entrants: Sequence[Entrant], common: np.ndarray) -> tuple[list[np.ndarray], str]:
    """Return for each run the numbers of the shared rows, in the same order for all, and a note."""
    keys = [_keys(each, common) for each in entrants]
    shared = keys[0][0]
    for own, _ in keys[1:]:
        shared = np.intersect1d(shared, own, assume_unique=True)
    are_named = all(len(np.unique(own)) == len(own) for own, _ in keys)  # older versions wrote no rows
    if are_named and len(np.unique(shared["target_id"])) == len(common):
        return [places[np.searchsorted(own, shared)] for own, places in keys], ""
    if any(len(own) != len(common) for own, _ in keys):
        why = "the data files of the runs number their rows in different ways"
        if not are_named:
            why = "an older version of hpctrain wrote results that do not name their rows"
        raise DataError(
            f"{why}, and some objects have several rows, so nothing says which row is which; train the runs again "
            "on the same data.files"
        )
    rows = [places[np.argsort(own["target_id"], kind="stable")] for own, places in keys]
    return rows, "the data files of the runs differ: rows are matched by the identifier of the object alone"


def _keys(entrant: Entrant, common: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what names each shared row, in increasing order, and the numbers of these rows."""
    judged = entrant.judged
    repeat = judged.columns.get("REPEAT", np.zeros(len(judged), dtype=np.int64))
    keys = np.empty(len(judged), dtype=[("target_id", "i8"), ("row", "i8"), ("repeat", "i8")])
    keys["target_id"], keys["row"], keys["repeat"] = judged.target_id, judged.row, repeat
    rows = np.flatnonzero(np.isin(judged.target_id, common))
    order = rows[np.lexsort((keys["repeat"][rows], keys["row"][rows], keys["target_id"][rows]))]
    return keys[order], order
