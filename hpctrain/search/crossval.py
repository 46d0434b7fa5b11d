"""Cross-validation of one profile: a study whose trials are repeats, with nothing to search for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.profile.check import Findings, check_profile
from hpctrain.profile.sections.data import BY_TIME
from hpctrain.search.section import StudySection

SALT = "data.split.salt"
"""Key that varies between repeats."""
TEST_FOLD = "data.split.test_fold"
"""Key that varies between the runs of a nested cross-validation that are tested."""


@dataclass(frozen=True)
class CrossValidation:
    """What a user asks for.

    Parameters
    ----------
    profile : Path
    folds, repeats, parallel : int
    changes : sequence of str
        Changes of the profile, ``key=value`` each, those of ``data.split`` included.
    """

    profile: Path
    folds: int
    repeats: int = 1
    parallel: int = 4
    changes: Sequence[str] = ()


def check_crossval(asked: CrossValidation, memory: bool = True) -> tuple[StudySection, Findings]:
    """Check the profile with its folds; return the study and the findings.

    Raises
    ------
    ProfileError
        The profile has problems, or repeats would all be the same.
    """
    changes = [*asked.changes, f"data.split.folds={asked.folds}"]
    findings = check_profile(asked.profile, [*changes, "data.split.fold=0"], memory=memory)
    profile = findings.raise_problems()
    split = profile.data.split
    if asked.repeats > 1 and split.by == BY_TIME:
        message = f"{asked.repeats} repeats of folds by time would all be the same; use 1"
        raise ProfileError("command line", [Problem("--repeats", message)])
    name = f"{profile.name[:55]}-crossval"
    salts = [split.salt if repeat == 0 else f"{split.salt}/{repeat}" for repeat in range(asked.repeats)]
    section = StudySection.model_validate(
        {
            "name": name,
            "description": f"{asked.folds} folds by {split.by}, {asked.repeats} time(s)",
            "base": str(asked.profile.absolute()),
            "set": changes,
            "space": {SALT: {"choices": salts}},
            "sampler": {"name": "grid"},
            "trials": asked.repeats,
            "folds": asked.folds,
            "test_fold": split.test_fold,
            "parallel": asked.parallel,
        }
    )
    return section, findings


def is_crossval(section: StudySection) -> bool:
    """Return whether the trials of a study are repeats of one cross-validation."""
    return bool(section.folds) and set(section.space) == {SALT}
