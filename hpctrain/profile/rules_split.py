"""Rules about ``data.split``: which objects are held out."""

from __future__ import annotations

import importlib.util

from hpctrain.profile.judge import Judge
from hpctrain.profile.sections.data import BY_FIELD, BY_OBJECT, BY_SKY, BY_TIME, SplitSection

_ONLY_FOR = {
    "ra": (BY_SKY,),
    "dec": (BY_SKY,),
    "nside": (BY_SKY,),
    "column": (BY_FIELD, BY_TIME),
    "stratify": (BY_OBJECT,),
}
"""Keys that have a meaning for some values of ``by`` only."""


def check_split(judge: Judge) -> None:
    """Judge ``data.split``."""
    _check_shares(judge)
    _check_folds(judge)
    _check_by(judge)


def _check_shares(judge: Judge) -> None:
    split, train = judge.profile.data.split, judge.profile.train
    if split.validation + split.test >= 1:
        message = (
            f"validation {split.validation:g} + test {split.test:g} leave nothing to train on; keep the sum below 1"
        )
        judge.problem(message, "data.split", "data.split.validation", "data.split.test")
    if not split.validates and train.early_stopping is not None:
        message = "needs spectra to evaluate on, but data.split.validation is 0; hold some out, such as 0.1"
        judge.problem(message, "train.early_stopping", "data.split.validation")
    if split.results == "test" and split.test == 0 and split.test_fold is None:
        message = "test has no objects: set data.split.test, such as 0.1, or data.split.test_fold"
        judge.problem(message, "data.split.results", "data.split.test", "data.split.test_fold")


def _check_folds(judge: Judge) -> None:
    split = judge.profile.data.split
    for key, value in (("fold", split.fold), ("test_fold", split.test_fold)):
        if value is not None and split.folds is None:
            judge.problem(
                f"{value} is of no meaning without data.split.folds; set the number of folds", f"data.split.{key}"
            )
        elif value is not None and split.folds is not None and value >= split.folds:
            message = f"{value} does not exist: {split.folds} folds have the numbers 0 to {split.folds - 1}"
            judge.problem(message, f"data.split.{key}", "data.split.folds")
    if split.fold is not None and split.fold == split.test_fold:
        judge.problem("is the fold of data.split.fold too; choose two folds", "data.split.test_fold", "data.split.fold")
    if split.folds == 2 and split.fold is not None and split.test_fold is not None:
        message = (
            "2 folds, of which one is for evaluation and one for the test, leave nothing to train on; use 3 or more"
        )
        judge.problem(message, "data.split.folds", "data.split.fold", "data.split.test_fold")


def _check_by(judge: Judge) -> None:
    split = judge.profile.data.split
    for key, ways in _ONLY_FOR.items():
        is_default = getattr(split, key) == SplitSection.model_fields[key].default  # the run's own profile has defaults
        if split.by not in ways and not is_default:
            message = f"has no meaning with by: {split.by}, only with by: {' or '.join(ways)}; remove it"
            judge.problem(message, f"data.split.{key}", "data.split.by")
    if split.by in (BY_FIELD, BY_TIME) and split.column is None:
        judge.problem(f"{split.by} needs data.split.column, the name of a dataset (N,)", "data.split.by")
    if split.by == BY_SKY and split.nside & (split.nside - 1):
        judge.problem(f"{split.nside} is no power of two, such as 8, 16 or 32", "data.split.nside")
    if split.by == BY_SKY and importlib.util.find_spec("astropy_healpix") is None:
        message = "sky needs the package astropy-healpix: pip install 'hpctrain[validation]'"
        judge.problem(message, "data.split.by")
