"""The folder of a study: ``runs/<study>/<study id>/``, with one run directory per trial.

::

    study.yaml       the study file, resolved
    base.yaml        the base profile, resolved
    study.json       when it was submitted, to which target, and each array of it
    job.sh           the batch script of the newest array
    stop             exists once ``hpctrain search stop`` was called: no further trial starts
    sealed.jsonl     the trials that have ended, once more: a copy that spares reading thousands of folders
    report.html
    pool.log         what the process that starts the trials has said, if no queue does
    ray/             what Ray Tune writes; nobody reads it
    folds/0/ 1/ ...  with ``folds``: the run directory of each fold of each trial, by the index of its task
    0/ 1/ 2/ ...     the trials: run directories (with ``folds`` only the profile of all folds) that also hold

        trial.json         what the sampler chose; it is written once and never changed
        evaluations.json   the objectives at each evaluation so far
        outcome.json       how the trial ended; it is written once and never changed
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hpctrain.errors import SiteError
from hpctrain.files import fsync_directory
from hpctrain.profile.load import load_profile
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, read_json, write_atomic, write_json
from hpctrain.search.folds import place_of
from hpctrain.search.section import StudySection
from hpctrain.search.space import Space

STUDY = "study.yaml"
FOLDS = "folds"
"""Name of the folder with the run directories of cross-validated trials."""
STOP_NOW = "now"
"""What the file ``stop`` holds if running trials shall end, too."""


class StudyDir:
    """Paths and files of one study.

    Parameters
    ----------
    path : str or Path
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        if self.path.is_symlink():
            self.path = Path(os.path.realpath(self.path))
        self.study = self.path / STUDY
        self.base = self.path / "base.yaml"
        self.record = self.path / "study.json"
        self.stop = self.path / "stop"
        self.sealed = self.path / "sealed.jsonl"
        self.report = self.path / "report.html"

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def name(self) -> str:
        return self.path.parent.name

    def trial(self, number: int) -> TrialDir:
        return TrialDir(self.path / str(number))

    def run(self, task: int, section: StudySection) -> TrialDir:
        """Return the run directory of a task of the array: that of a trial, or of one fold of a trial."""
        return FoldDir(self.path / FOLDS / str(task)) if section.folds else self.trial(task)

    def section(self) -> StudySection:
        """Return the study file.

        Raises
        ------
        SiteError
            It is missing or damaged.
        """
        try:
            return StudySection.model_validate(yaml.safe_load(self.study.read_text(encoding="utf-8")))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise SiteError(f"{self.study}: is missing or damaged: {str(error).splitlines()[0]}") from error

    def space(self) -> Space:
        return Space.of(self.section().space)

    def base_profile(self) -> Profile:
        return load_profile(self.base)

    def read_record(self) -> StudyRecord:
        """Return ``study.json``."""
        found = read_json(self.record, {})
        known = {name: found[name] for name in StudyRecord.__dataclass_fields__ if name in found}
        return StudyRecord(**known)

    def write_record(self, record: StudyRecord) -> None:
        write_json(self.record, vars(record))


@dataclass(frozen=True)
class StudyRecord:
    """What ``study.json`` holds.

    Parameters
    ----------
    cluster : str
        Name of the target.
    submitted_at : float
        When the study was submitted [s since 1970].
    trials : int
        Number of trials, with those of ``extend``.
    arrays : list of dict
        ``job_id``, ``tasks`` and ``submitted_at`` of each array.
    """

    cluster: str = ""
    submitted_at: float = 0.0
    trials: int = 0
    arrays: list[dict[str, Any]] = field(default_factory=list)


class TrialDir(RunDir):
    """The run directory of a trial.

    Parameters
    ----------
    path : str or Path
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.asked = self.path / "trial.json"
        self.evaluations = self.path / "evaluations.json"
        self.outcome = self.path / "outcome.json"

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def study(self) -> StudyDir:
        return StudyDir(self.path.parent)

    def trial(self, section: StudySection) -> TrialDir:
        """Return the trial that this run is a part of: itself, unless trials are cross-validated."""
        return self


class FoldDir(TrialDir):
    """The run directory of one fold of a trial; `number` is the index of its task."""

    @property
    def study(self) -> StudyDir:
        return StudyDir(self.path.parent.parent)

    def trial(self, section: StudySection) -> TrialDir:
        """Return the trial that this run is a part of."""
        return self.study.trial(place_of(section, self.number)[0])


def run_at(path: str | Path) -> TrialDir:
    """Return the run directory of a task of a study."""
    return FoldDir(path) if Path(path).absolute().parent.name == FOLDS else TrialDir(path)


def write_once(path: Path, value: Any) -> Any:
    """Write a JSON file that must never change, whole or not at all, unless it exists; return what it holds.

    Two writers at once agree: the second one gets what the first one wrote. It needs no lock, so it works on any file
    system that has hard links, NFS among them.
    """
    if (found := read_json(path)) is not None:
        return found
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8") as stream:
            json.dump(value, stream, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            if (found := read_json(path)) is not None:
                return found
            os.replace(temporary, path)  # a damaged file: nobody can read what it held
            return value
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    fsync_directory(path.parent)
    return value


def is_study(path: Path) -> bool:
    """Return whether `path` is the folder of a study."""
    return (path / STUDY).exists()


def all_studies(runs_dir: Path) -> list[StudyDir]:
    """Return all studies below `runs_dir`, newest first."""
    found = [StudyDir(path) for path in runs_dir.glob("*/*") if is_study(path)]
    return sorted(found, key=lambda study: study.id, reverse=True)


def find_study(text: str, runs_dir: Path) -> StudyDir:
    """Return the study that a path, a name or a study id means; of several with one name the newest.

    Raises
    ------
    SiteError
        There is none.
    """
    path = Path(text)
    if is_study(path):
        return StudyDir(path)
    studies = all_studies(runs_dir)
    for study in studies:
        if text in (study.id, study.name):
            return study
    known = ", ".join(sorted({study.name for study in studies})) or "none"
    raise SiteError(f"there is no study '{text}'; below {runs_dir} there are: {known}")


def write_study(study: StudyDir, section: StudySection) -> None:
    """Write ``study.yaml``."""
    text = yaml.safe_dump(section.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
    write_atomic(study.study, text)
