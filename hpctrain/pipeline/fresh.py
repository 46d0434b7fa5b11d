"""The stage ``new``: which files have objects that the version in service has not seen, and is it time to train?

::

    {out}/new.json     whether the pipeline goes on, why, and how many good new objects each file has
    {out}/<file>       a link to each file with new objects
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.families.labels.section import CLASS, LabelSection
from hpctrain.pipeline.folder import NEW_FILE, StageDir
from hpctrain.pipeline.kinds import filled, trainer_after
from hpctrain.pipeline.section import StageSection
from hpctrain.pipeline.service import alias_of, in_service, model_of, seen_objects
from hpctrain.profile.files import matching_files
from hpctrain.profile.load import load_profile
from hpctrain.profile.lookup import find_family, find_kind
from hpctrain.profile.schema import Profile
from hpctrain.registry.version import Version
from hpctrain.rundir import write_json

_DRIFTS = ("drift", "stability")
_NAMED = 3


@dataclass(frozen=True)
class Fresh:
    """What is new.

    Parameters
    ----------
    go : bool
        Whether the pipeline goes on.
    why : str
        In words.
    files : dict of str to int
        Number of good new objects of each file that has some.
    champion : str or None
        The version in service.
    """

    go: bool
    why: str
    files: dict[str, int]
    champion: str | None


def look_for_new(stage: StageDir, out: Path, places: dict[str, str]) -> Fresh:
    """Find what is new, decide whether to go on, and write both.

    Raises
    ------
    DataError
        Files cannot be read, or have no identifiers.
    """
    own = stage.section()
    paths = files_of(filled(str(own.data), places))
    model, alias = model_of(stage), alias_of(own)
    champion = None if model is None else in_service(model, alias)
    seen = np.empty(0, np.int64) if model is None else seen_objects(model, alias)
    profile = _profile_after(stage)
    ids = {path: good_objects(profile, path) for path in paths}
    ids = {path: found[~np.isin(found, seen)] for path, found in ids.items()}
    ids = {path: found for path, found in ids.items() if len(found)}
    number = len(np.unique(np.concatenate([np.empty(0, np.int64), *ids.values()])))
    go, why = _decide(own, number, list(ids), champion)
    found = Fresh(go, why, {path: len(each) for path, each in ids.items()}, None if champion is None else str(champion))
    for path in found.files:
        os.symlink(path, _free(out / Path(path).name))
    write_json(
        out / NEW_FILE, {"go": go, "why": why, "objects": number, "files": found.files, "champion": found.champion}
    )
    return found


def files_of(pattern: str) -> list[str]:
    """Return the paths that a pattern matches, sorted, without links in them; none if it matches nothing."""
    return sorted({os.path.realpath(path) for path in matching_files(pattern) if path.is_file()})


def good_objects(profile: Profile, path: str) -> np.ndarray:
    """Return the identifiers of the objects of a file that can be trained on: usable, with a label if any is learned.

    Returns
    -------
    ndarray, shape (K,), int64
        Increasing.

    Raises
    ------
    DataError
        The file cannot be read, or has no identifiers.
    """
    samples = find_kind(find_family(profile.model.family).kind).open(profile.data.model_copy(update={"files": [path]}))
    try:
        target_id = np.asarray(samples.target_id)
        if np.array_equal(target_id, np.arange(len(target_id))) and not _has_column(samples, _id_column(profile)):
            raise DataError(
                f"{path}: has no identifiers of objects, only numbers of rows, so nobody can say which are new; name "
                "their column in data.target_id"
            )
        good = np.asarray(samples.usable(np.arange(len(target_id))), dtype=bool)
        labels = [each for each in getattr(profile.model, "labels", ()) if isinstance(each, LabelSection)]
        has = [_has_label(samples.column(label.column), label) for label in labels]
        return np.unique(target_id[good & np.logical_or.reduce(has)] if has else target_id[good])
    finally:
        samples.close()


def _id_column(profile: Profile) -> str:
    return getattr(profile.data, "target_id", None) or "target_id"


def _has_column(samples: Any, name: str) -> bool:
    try:
        samples.column(name)
    except DataError:
        return False
    return True


def _has_label(column: np.ndarray, label: LabelSection) -> np.ndarray:
    from hpctrain.families.labels.columns import texts_of, values_of

    return texts_of(column, label) != "" if label.kind == CLASS else np.isfinite(values_of(column, label))


def _profile_after(stage: StageDir) -> Profile:
    """Return the profile that says what a sample is: that of the next stage that trains.

    Raises
    ------
    ProfileError
        It is wrong.
    """
    trainer = trainer_after(stage.pipeline.section(), stage.section())
    if trainer is None:
        raise ProfileError(str(stage.pipeline.file), [Problem(stage.stage_name, "needs a stage after it that trains")])
    return load_profile(str(trainer.profile), [each for each in trainer.set if "{" not in each])


def _decide(own: StageSection, number: int, files: Sequence[str], champion: Version | None) -> tuple[bool, str]:
    """Return whether to go on, and why, in words."""
    objects = f"{number:,} good new object{'' if number == 1 else 's'}"
    least = own.min_objects or 1
    if number < least:
        return False, f"{objects}, and it takes {least:,}" if number else "no new objects"
    if champion is None:
        return True, f"{objects}, and no version is in service yet"
    if own.drift is None:
        return True, f"{objects} since {champion}"
    if own.drift.enough is not None and number >= own.drift.enough:
        return True, f"{objects} since {champion}, which is enough without drift"
    drifted = drift_of(own, files, champion)
    return bool(drifted), f"{objects} since {champion}, {'; '.join(drifted) if drifted else 'no drift'}"


def drift_of(own: StageSection, files: Sequence[str], champion: Version) -> list[str]:
    """Return how files differ from the data of the version in service, in words; empty if chance explains it.

    Raises
    ------
    DataError
        Files, or those of the version, cannot be read.
    """
    from hpctrain.expectations.section import DriftSection, read_expectations
    from hpctrain.expectations.validate import validate  # which imports scipy and statsmodels

    assert own.drift is not None
    assert own.expectations is not None
    expected = read_expectations(own.expectations)
    limits = DriftSection(distance=own.drift.distance, psi=own.drift.psi)
    columns = {name: column.model_copy(update={"distance": None}) for name, column in expected.columns.items()}
    expected = expected.model_copy(update={"drift": limits, "columns": columns})
    try:
        found = validate(files, expected, own.expectations, reference=str(champion.path))
    except ProfileError as error:
        raise DataError(str(error)) from error
    drifted = [check for check in found.failed if check.what in _DRIFTS]
    return [f"{check.column} drifts: {check.found}" for check in drifted[:_NAMED]]


def _free(path: Path) -> Path:
    """Return a path that does not exist yet; files of two folders may have the same name."""
    number = 1
    while os.path.lexists(path):
        number += 1
        path = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return path
