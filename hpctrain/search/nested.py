"""Nested cross-validation: for each fold a search among the others; its winner is trained anew and tested on the fold.

So the number that is reported knows nothing of the choices that the search made. ``nested.json`` names the studies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain.access import following, make
from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.profile.reading import read_plain
from hpctrain.rundir import new_run_id, read_json, write_json
from hpctrain.search.crossval import TEST_FOLD
from hpctrain.search.folder import StudyDir
from hpctrain.search.ranking import ranked
from hpctrain.search.section import StudySection
from hpctrain.search.study_file import check_study, read_study
from hpctrain.search.submit import NewStudy, new_study, start
from hpctrain.search.trials import is_running, read_trials

RECORD = "nested.json"


@dataclass(frozen=True)
class Nested:
    """A nested cross-validation that was submitted.

    Parameters
    ----------
    path : Path
        Its folder.
    studies : list of StudyDir
        The search without each fold, by the number of the fold.
    tested : StudyDir or None
        The study whose trials are tested, once it was submitted.
    """

    path: Path
    studies: list[StudyDir]
    tested: StudyDir | None

    def write(self) -> None:
        tested = None if self.tested is None else str(self.tested.path)
        with following(self.path):
            write_json(self.path / RECORD, {"studies": [str(study.path) for study in self.studies], "tested": tested})


def read_nested(path: Path) -> Nested | None:
    """Return the nested cross-validation in a folder; None if there is none."""
    found: Any = read_json(path / RECORD)
    if not isinstance(found, dict) or not found.get("studies"):
        return None
    tested = None if found.get("tested") is None else StudyDir(found["tested"])
    return Nested(path.absolute(), [StudyDir(each) for each in found["studies"]], tested)


def new_nested(
    path: Path,
    folds: int,
    split_changes: Sequence[str] = (),
    overrides: Sequence[str] = (),
    cluster: str | None = None,
    memory: bool = True,
) -> list[NewStudy]:
    """Return the study without each fold, checked; nothing is written.

    Parameters
    ----------
    path : Path
        Study file.
    folds : int
        Number of folds, 3 or more.
    split_changes : sequence of str
        Changes of ``data.split`` of the base.
    overrides : sequence of str
        Changes of the study file.
    cluster : str, optional
        Where to run, instead of ``launch.cluster`` of the base.
    memory : bool
        Whether to estimate the memory of the largest trials.

    Raises
    ------
    ProfileError
        The study has problems, or sets its folds itself.
    """
    document = read_plain(path)
    if keys := [key for key in ("folds", "test_fold") if key in document.data]:
        message = "a nested cross-validation makes the outer and the inner folds, see --folds; remove it"
        raise ProfileError(document.source, [document.problem((key,), message) for key in keys])
    if folds < 3:
        raise ProfileError("command line", [Problem("--folds", f"{folds}: a nested cross-validation needs 3 or more")])
    name, changes = str(document.data.get("name", "search")), [*(document.data.get("set") or []), *split_changes]
    own = [*overrides, f"set={json.dumps(changes)}", f"folds={folds}"]
    files = [read_study(path, [*own, f"name={name[:50]}-without-{fold}", f"test_fold={fold}"]) for fold in range(folds)]
    check_study(files[0], memory)
    return [new_study(file.section, cluster) for file in files]


def start_nested(new: Sequence[NewStudy]) -> Nested:
    """Submit all studies; return where they are noted.

    Raises
    ------
    SiteError
        The cluster refuses one; those before it are noted and go on.
    """
    name = new[0].section.name.removesuffix("-without-0")
    folder = Path(new[0].base.launch.runs_dir) / f"{name}-nested" / new_run_id()
    launch = new[0].base.launch
    for number, each in enumerate(new):
        start(each)
        if not folder.exists():
            make(folder, launch.access, launch.group)
        nested = Nested(folder, [study.directory for study in new[: number + 1]], None)
        nested.write()
    return nested


def still_searching(nested: Nested) -> list[str]:
    """Return a line for each study that has running trials, or no finished one."""
    lines = []
    for study in nested.studies:
        trials = read_trials(study, ask_queue=True)
        running = sum(map(is_running, trials))
        if running or not ranked(study.section(), trials):
            lines.append(f"{study.path}: {running} trials run, {len(ranked(study.section(), trials))} have finished")
    return lines


def retrain_winners(nested: Nested) -> Nested:
    """Submit, for each fold, the best trial of the search without it, trained on all other folds.

    A share of ``data.split.validation`` of their objects stays out, for early stopping and the calibration.

    Raises
    ------
    SiteError
        A search is not over, or the cluster refuses.
    """
    if lines := still_searching(nested):
        raise SiteError("\n  ".join(["searches are not over yet:", *lines]))
    first = nested.studies[0].section()
    chosen = []
    for fold, study in enumerate(nested.studies):
        best = ranked(study.section(), read_trials(study))[0]
        chosen.append({**best.values, TEST_FOLD: str(fold)})  # values of choices are kept as their names
    folds = len(nested.studies)
    section = StudySection.model_validate(
        {
            **first.model_dump(mode="json", exclude_none=True, exclude={"folds", "test_fold", "pruner", "budget"}),
            "name": f"{nested.path.parent.name[:50]}-tested",
            "base": str(nested.studies[0].base),
            "set": ["data.split.results=test"],
            "space": {**first.model_dump(mode="json", exclude_none=True)["space"], TEST_FOLD: list(range(folds))},
            "sampler": {"name": "random"},
            "objectives": [{"metric": "gpu_hours"}],  # they are tested, not ranked
            "trials": folds,
        }
    )
    new = new_study(section, nested.studies[0].read_record().cluster)
    start(new, chosen)
    done = Nested(nested.path, nested.studies, new.directory)
    done.write()
    return done


def described(nested: Nested) -> str:
    """Return how far a nested cross-validation is, in a few lines."""
    lines = [f"{nested.path}: a search without each of {len(nested.studies)} folds"]
    for fold, study in enumerate(nested.studies):
        section, trials = study.section(), read_trials(study, ask_queue=True)
        order = ranked(section, trials)
        best = f", best {section.objectives[0].metric} {order[0].scores[0]:.5g}" if order and order[0].scores else ""
        age = (time.time() - study.read_record().submitted_at) / 3600
        running = sum(map(is_running, trials))
        lines.append(f"  fold {fold}: {len(order)} of {len(trials)} finished, {running} run, {age:.1f} h{best}")
    return "\n".join(lines)
