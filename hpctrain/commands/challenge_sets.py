"""What a candidate and the version in service say about the same objects that no version was trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.families.held_out import HeldOut
from hpctrain.families.predictions import open_for
from hpctrain.families.store import CARD, load_model, read_blueprint
from hpctrain.pipeline.challenge import TestSet
from hpctrain.profile.load import load_profile
from hpctrain.profile.lookup import find_family, find_kind
from hpctrain.profile.sections.data import SplitSection
from hpctrain.registry.version import Version
from hpctrain.rundir import RunDir
from hpctrain.samples.split import TEST, assign_split
from hpctrain.validation.comparison.entrants import Entrant
from hpctrain.validation.judged import Judged
from hpctrain.validation.results import read_card, read_results
from hpctrain.validation.tasks.of_run import tasks_of

BATCH_SIZE = 1024


class _Columns:
    """Columns of files that are open, for the bins."""

    def __init__(self, samples: Any) -> None:
        self._samples = samples

    def read(self, name: str, row: np.ndarray, target_id: np.ndarray) -> np.ndarray:
        """Return a column at some rows (R,)."""
        del target_id
        return np.asarray(self._samples.column(name))[row]

    def names(self) -> list[str]:
        """Return no names: the files are asked for each column."""
        return []


def split_of(run: RunDir) -> SplitSection:
    """Return the split of a run, which must have a test side that depends on nothing but the object.

    Raises
    ------
    ProfileError
        It has none.
    """
    split = load_profile(run.profile).data.split
    if not split.test_share:
        message = "is 0, so no object judges versions fairly; set 0.2, say, and train again"
        raise ProfileError(str(run.profile), [Problem("data.split.test", message)])
    if split.by == "time" or split.stratify is not None:
        message = "moves objects between sides when data are added; for a test set that lasts, split by object or sky"
        raise ProfileError(str(run.profile), [Problem("data.split", message)])
    return split


def objects_of(run: RunDir, files: Sequence[str]) -> np.ndarray:
    """Return the identifiers (K,), int64, of the objects of files that are on the test side of a run's split."""
    samples, rows = _open(run, files)
    samples.close()
    return np.unique(samples.target_id[rows])


def _open(run: RunDir, files: Sequence[str]) -> tuple[Any, np.ndarray]:
    """Return files as one set, and the rows (n,) of the test side."""
    samples = open_for(run.path, read_card(run), list(files))
    side = assign_split(samples.target_id, split_of(run), samples.column)
    return samples, np.flatnonzero(side == TEST).astype(np.int64)


def test_set(
    name: str, versions: tuple[Version, RunDir], files: Sequence[str], trained: Mapping[str, np.ndarray]
) -> TestSet:
    """Return what both models say about the objects of files that judge them.

    Parameters
    ----------
    name : str
    versions : (Version, RunDir)
        The version in service, and the candidate.
    files : sequence of str
    trained : mapping of str to ndarray, shape (n,), int64
        Objects on which versions were trained; they do not count.

    Raises
    ------
    DataError
        A model cannot read the files, or has nothing to say about them.
    """
    champion, candidate = versions
    samples, rows = _open(candidate, files)
    rows = rows[~np.isin(samples.target_id[rows], np.concatenate(list(trained.values())))]
    runs = {str(champion): RunDir(champion.path), "candidate": candidate}
    judged = [_judged(each, run, files, rows, _Columns(samples)) for each, run in runs.items()]
    shared = np.intersect1d(*(each.row for each in judged))
    chosen = [each.take(np.isin(each.row, shared)) for each in judged]
    return TestSet(name, *(Entrant(each.name, each) for each in chosen))


def _judged(name: str, run: RunDir, files: Sequence[str], rows: np.ndarray, columns: Any) -> Judged:
    """Return what a model says about rows (n,) of files, beside what is true."""
    model, card = load_model(run.path)
    family = find_family(card["family"])
    samples = open_for(run.path, card, list(files))
    section, _ = read_blueprint(card, run.model / CARD)
    samples.labels = family.labels(section, samples)
    asked = HeldOut(
        samples=samples,
        rows=rows,
        prepare=find_kind(family.kind).preparation(card),
        batch_size=BATCH_SIZE,
        device=torch.device("cpu"),
        tick=lambda done: None,
    )
    with tempfile.TemporaryDirectory() as folder:
        results = RunDir(Path(folder))
        results.results.mkdir()
        if len(rows) == 0:
            raise DataError(f"{', '.join(files)}: no object is on the test side of the split, or all were trained on")
        family.write_results(model, card, asked, results.results)
        found = read_results(results)[1]
    target_id, row = found.pop("target_id"), found.pop("row")
    return Judged(run, name, card, target_id, row, found, tasks_of(card, found), columns, sha256="")
