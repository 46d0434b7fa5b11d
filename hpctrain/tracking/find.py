"""What a user means by a path or a name: a run, a study with its trials, or a pipeline with its stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpctrain.errors import ProfileError, SiteError
from hpctrain.launch.runs import find_run
from hpctrain.metrics.exporters.subject import Subject
from hpctrain.pipeline.folder import PipelineDir, StageDir, find_pipeline, is_pipeline
from hpctrain.pipeline.section import TRAIN
from hpctrain.profile.load import load_profile
from hpctrain.profile.sections.outputs import TrackSection
from hpctrain.registry.folder import Registry
from hpctrain.rundir import RunDir, is_run
from hpctrain.search.folder import FoldDir, StudyDir, TrialDir, find_study, is_study, run_at
from hpctrain.search.nested import read_nested
from hpctrain.search.trials import read_trials
from hpctrain.tracking.pipelines import pipeline_subject, registry_of, stage_subject, stage_subjects
from hpctrain.tracking.runs import Versions, run_subject, versions_of
from hpctrain.tracking.studies import fold_subject, study_subject, trial_subject, trial_subjects


@dataclass(frozen=True)
class Found:
    """What is to be tracked.

    Parameters
    ----------
    path : Path
    what : str
        ``run``, ``study`` or ``pipeline``.
    """

    path: Path
    what: str

    def track(self) -> TrackSection:
        """Return the section ``track`` that counts for all of it: of the run, the base, or the first training."""
        if self.what == "study":
            return StudyDir(self.path).base_profile().track
        if self.what == "pipeline":
            return _track_of(PipelineDir(self.path))
        if is_study(study_path := _study_path(self.path)):
            return StudyDir(study_path).base_profile().track
        if is_pipeline(self.path.parent):
            return _track_of(PipelineDir(self.path.parent))
        return load_profile(RunDir(self.path).profile).track

    def subjects(self, registry: Registry, is_live: bool = False) -> Iterator[Subject]:
        """Yield what gets a tracked run, each parent before its children.

        Parameters
        ----------
        registry : Registry
            Where to look for versions of the runs.
        is_live : bool
            Whether a run trains just now, so that it has neither a validation nor versions.
        """
        if self.what == "study":
            yield from _of_study(StudyDir(self.path), versions_of(registry))
        elif self.what == "pipeline":
            pipeline = PipelineDir(self.path)
            parent = pipeline_subject(pipeline)
            yield parent
            yield from stage_subjects(pipeline, parent, versions_of(registry))
        else:
            yield _of_run(RunDir(self.path), {} if is_live else versions_of(registry))


def find(text: str, runs_dir: Path, pipelines: Path) -> list[Found]:
    """Return what a path, name or id means; a nested cross-validation is several studies.

    Raises
    ------
    ProfileError
        There is neither a run, nor a study, nor a pipeline of this name.
    """
    path = Path(text)
    if is_study(path):
        return [Found(StudyDir(path).path, "study")]
    if is_pipeline(path):
        return [Found(PipelineDir(path).path, "pipeline")]
    if (nested := read_nested(path)) is not None:
        studies = [*nested.studies, *([nested.tested] if nested.tested is not None else [])]
        return [Found(study.path, "study") for study in studies]
    if is_run(path) or (path.is_dir() and is_pipeline(path.absolute().parent)):
        return [Found(RunDir(path).path, "run")]
    try:
        return [Found(find_run(text, runs_dir).path, "run")]
    except ProfileError as error:
        not_a_run = error
    for look, what, place in ((find_study, "study", runs_dir), (find_pipeline, "pipeline", pipelines)):
        try:
            return [Found(look(text, place).path, what)]
        except SiteError:
            continue
    raise not_a_run


def registry_for(found: Found) -> Registry | None:
    """Return the registry that belongs to a pipeline; None for anything else."""
    if found.what == "pipeline":
        return registry_of(PipelineDir(found.path))
    if found.what == "run" and is_pipeline(found.path.parent):
        return registry_of(PipelineDir(found.path.parent))
    return None


def _of_study(study: StudyDir, versions: Versions) -> Iterator[Subject]:
    trials, base = read_trials(study), study.base_profile()
    parent = study_subject(study, trials, base)
    yield parent
    yield from trial_subjects(study, trials, base, parent, versions)


def _of_run(run: RunDir, versions: Versions) -> Subject:
    """Return a run with the study or the pipeline that it belongs to."""
    if is_pipeline(run.path.parent):
        stage = StageDir(run.path)
        return stage_subject(stage, pipeline_subject(stage.pipeline), versions)
    if not is_study(_study_path(run.path)):
        return run_subject(run, load_profile(run.profile), versions)
    trial = run_at(run.path)
    study, section = trial.study, trial.study.section()
    parent = study_subject(study, (), study.base_profile())
    if isinstance(trial, FoldDir):
        whole: TrialDir = trial.trial(section)
        return fold_subject(trial, section, trial_subject(whole, section, parent, versions), versions)
    return trial_subject(trial, section, parent, versions)


def _study_path(run: Path) -> Path:
    return run_at(run).study.path


def _track_of(pipeline: PipelineDir) -> TrackSection:
    for stage in pipeline.section().stages:
        if stage.does == TRAIN and not stage.skip:
            own = pipeline.stage(stage.name).profile
            return load_profile(own if own.is_file() else str(stage.profile)).track
    return TrackSection()
