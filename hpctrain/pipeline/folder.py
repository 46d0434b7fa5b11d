"""The folder of a pipeline.

::

    pipelines/weekly/
      store/ingest/<key>/      results of a stage: whole, and never changed
          stage.json           what went in, what came out with SHA-256, when, how long
          log.txt              what its commands have said
          out/                 the results themselves
      store/ingest/<key>.work/ the same while the stage runs, or after it has failed
      digests.json             SHA-256 of files from outside, by path, size and time of change
      <pipeline id>/           one time through the pipeline
          pipeline.yaml        the pipeline file, resolved
          pipeline.json        when it was started, where, and the job of each stage
          ingest/ train/ ...   a run directory for each stage: logs, attempts, state.json
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hpctrain.errors import SiteError
from hpctrain.pipeline.section import PipelineSection, StageSection
from hpctrain.rundir import RunDir, read_json, write_atomic, write_json

FILE = "pipeline.yaml"
RESULT = "stage.json"
NEW_FILE = "new.json"
"""Result of a stage ``new``: whether the pipeline goes on."""

WAITING, RUNNING, DONE, DONE_BEFORE, FAILED, GATE_FAILED, SKIPPED, NOT_NEEDED = (
    "waiting",
    "running",
    "done",
    "done before",
    "failed",
    "gate failed",
    "skipped",
    "not needed",
)
WELL = (DONE, DONE_BEFORE, NOT_NEEDED)
"""States in which a stage has nothing left to do."""


@dataclass(frozen=True)
class StageState:
    """How far a stage is.

    Parameters
    ----------
    state : str
    key : str
        Content key; empty before it is known.
    why : list of str
        What has changed since the stage was last done.
    started_at, ended_at : float
        Seconds since 1970; 0 if it has not.
    exit_code : int or None
    note : str
        What a reader should know; empty if there is nothing to say.
    """

    state: str = WAITING
    key: str = ""
    why: list[str] = field(default_factory=list)
    started_at: float = 0.0
    ended_at: float = 0.0
    exit_code: int | None = None
    note: str = ""


class PipelineDir:
    """Paths and files of one time through a pipeline.

    Parameters
    ----------
    path : str or Path
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.file = self.path / FILE
        self.record = self.path / "pipeline.json"
        self.store = self.path.parent / "store"
        self.digests = self.path.parent / "digests.json"

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def name(self) -> str:
        return self.path.parent.name

    def section(self) -> PipelineSection:
        """Return the pipeline file.

        Raises
        ------
        SiteError
            It is missing or damaged.
        """
        try:
            facts = os.stat(self.file)
            return _section_in(self.file, (facts.st_ino, facts.st_size, facts.st_mtime_ns))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise SiteError(f"{self.file}: is missing or damaged: {str(error).splitlines()[0]}") from error

    def write_section(self, section: PipelineSection) -> None:
        text = yaml.safe_dump(section.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)
        write_atomic(self.file, text)

    def stage(self, name: str) -> StageDir:
        return StageDir(self.path / name)

    def read_record(self) -> dict[str, Any]:
        """Return ``pipeline.json``; an empty one if it is missing or damaged."""
        found = read_json(self.record, {})
        return found if isinstance(found, dict) else {}

    def write_record(self, **facts: Any) -> None:
        write_json(self.record, {**self.read_record(), **facts})


class StageDir(RunDir):
    """The run directory of a stage.

    Parameters
    ----------
    path : str or Path
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.state_path = self.path / "state.json"

    @property
    def stage_name(self) -> str:
        return self.path.name

    @property
    def pipeline(self) -> PipelineDir:
        return PipelineDir(self.path.parent)

    def section(self) -> StageSection:
        return self.pipeline.section().stage(self.stage_name)

    def read_state(self) -> StageState:
        """Return how far the stage is."""
        found = read_json(self.state_path, {})
        known = StageState.__dataclass_fields__
        return StageState(**{key: value for key, value in (found or {}).items() if key in known})

    def write_state(self, state: StageState) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.state_path, asdict(state))

    def sealed(self, key: str) -> Path:
        """Return the folder of the results for a content key."""
        return self.pipeline.store / self.stage_name / key

    def work(self, key: str) -> Path:
        """Return the folder of the results while the stage runs."""
        return self.pipeline.store / self.stage_name / f"{key}.work"

    def read_result(self, key: str) -> dict[str, Any] | None:
        """Return ``stage.json`` of the results for a key; None if there is none, or its run directory is gone."""
        found = read_json(self.sealed(key) / RESULT)
        if not isinstance(found, dict) or found.get("key") != key:
            return None
        is_there = (
            all((Path(found["run"]) / name).exists() for name in found.get("files", ())) if "run" in found else True
        )
        return found if is_there else None

    def newest_result(self) -> dict[str, Any] | None:
        """Return ``stage.json`` of the results that were made last; None if there is none."""
        folder = self.pipeline.store / self.stage_name
        found = [read_json(path) for path in folder.glob(f"*/{RESULT}") if not path.parent.name.endswith(".work")]
        known = [each for each in found if isinstance(each, dict) and "ended_at" in each]
        return max(known, key=lambda each: each["ended_at"], default=None)


@functools.lru_cache(maxsize=32)
def _section_in(path: Path, look: tuple[int, ...]) -> PipelineSection:
    """Return the section in a file, which is read again only if it looks different."""
    del look
    return PipelineSection.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def newest_of(pipelines: Sequence[PipelineDir]) -> PipelineDir:
    """Return the one that was started last; two may have been started in the same second, which ids do not tell."""
    return max(pipelines, key=lambda each: each.read_record().get("started_at", 0.0))


def is_pipeline(path: Path) -> bool:
    """Return whether `path` is the folder of one time through a pipeline."""
    return (path / FILE).exists()


def find_pipeline(text: str, folder: Path) -> PipelineDir:
    """Return the time through a pipeline that a path, an id or a name means; of a name the newest.

    Raises
    ------
    SiteError
        There is none.
    """
    if is_pipeline(Path(text)):
        return PipelineDir(text)
    found = [PipelineDir(path.parent) for path in folder.glob(f"*/*/{FILE}")]
    if meant := [each for each in found if text in (each.id, each.name)]:
        return newest_of(meant)
    known = ", ".join(sorted({each.name for each in found})) or "none"
    raise SiteError(f"there is no pipeline '{text}'; below {folder} there are: {known}")
