"""Read a pipeline file, and check everything that can be known before a stage runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.pipeline.kinds import OUT, names_in, trainer_after
from hpctrain.pipeline.sample import sample_of
from hpctrain.pipeline.section import (
    CHALLENGE,
    EVALUATE,
    GATE,
    LOG,
    NEW,
    REGISTER,
    SPLIT,
    TRAIN,
    PipelineSection,
    StageSection,
)
from hpctrain.profile.check import check_profile
from hpctrain.profile.document import Document, sort_problems
from hpctrain.profile.explain import typed
from hpctrain.profile.reading import read_plain
from hpctrain.profile.rules_access import problem_of
from hpctrain.profile.site import load_site
from hpctrain.profile.targets import AUTO


def read_pipeline(path: str | Path, sample: bool = False, data: bool = True) -> PipelineSection:
    """Read a pipeline file; paths become absolute.

    Profiles and expectations are relative to the file, as they belong to it; inputs and the folder of pipelines are
    relative to the current folder.

    Parameters
    ----------
    path : str or Path
    sample : bool
        Return the pipeline as its section ``sample`` changes it.
    data : bool
        Look for the files that profiles train on; of the pipeline that is returned alone.

    Raises
    ------
    ProfileError
        The file is wrong, or has no section ``sample``; the message lists all problems with their lines.
    """
    document = read_plain(path)
    section = typed(document, PipelineSection)
    small, wrong = sample_of(section, document)
    section, small = (_with_all_paths_absolute(each, Path(path).parent) for each in (section, small))
    problems = [*document.problems, *_problems(section, document, data and not sample), *wrong]
    if section.sample and not problems:
        found = _problems(small, document, data and sample)
        problems += [replace(each, message=f"with --sample: {each.message}") for each in found]
    if sample and not section.sample:
        problems.append(Problem("sample", "is missing: for each stage that reads files or trains, what makes it small"))
    if problems:
        raise ProfileError(document.source, sort_problems(problems))
    return small if sample else section


def _with_all_paths_absolute(section: PipelineSection, beside: Path) -> PipelineSection:
    stages = [_with_absolute_paths(stage, beside) for stage in section.stages]
    folder = os.path.abspath(os.path.expandvars(section.folder))
    return section.model_copy(update={"stages": stages, "folder": folder})


def _with_absolute_paths(stage: StageSection, beside: Path) -> StageSection:
    changes: dict[str, Any] = {key: [_absolute(each) for each in getattr(stage, key)] for key in ("inputs", "frozen")}
    if stage.replay is not None:
        data = [_absolute(each) for each in stage.replay.data]
        changes["replay"] = stage.replay.model_copy(update={"data": data})
    if stage.does == NEW and stage.data is not None and not names_in([stage.data]):
        changes["data"] = _absolute(stage.data)
    for key in ("expectations", "profile"):
        if (value := getattr(stage, key)) is not None:
            changes[key] = os.path.abspath(beside / os.path.expandvars(value))
    return stage.model_copy(update=changes)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expandvars(path))


def _problems(section: PipelineSection, document: Document, data: bool) -> Iterator[Problem]:
    yield from _access_problems(section, document)
    known: list[str] = []
    for index, stage in enumerate(section.stages):
        where = ("stages", index)
        for name in names_in([*stage.commands, *stage.set, *stage.options, stage.data or "", stage.newest or ""]):
            if name not in (*known, OUT):
                listed = ", ".join([OUT, *known])
                message = f"{stage.name} names {{{name}}}, and no stage before it has this name; known are {listed}"
                yield document.problem(where, message)
        trains = any(section.stage(name).does == TRAIN and not section.stage(name).skip for name in known)
        if stage.does in (EVALUATE, GATE, REGISTER, CHALLENGE, LOG) and not stage.run and not trains and not stage.skip:
            yield document.problem(where, f"{stage.name} needs a stage before it that trains")
        if stage.does == SPLIT and not stage.run and not stage.skip and trainer_after(section, stage) is None:
            yield document.problem(where, f"{stage.name} without run needs a stage after it that trains")
        if any(change.startswith("validate.") for change in stage.set):
            message = "validate.* has no effect here: evaluate and gate read it in the profile; write it there"
            yield document.problem((*where, "set"), message)
        if stage.does in (NEW, CHALLENGE) and not stage.run and section.model_of(stage) is None:
            yield document.problem(where, f"{stage.name} needs model, the name of the model in the registry")
        if stage.does == NEW and not stage.run and trainer_after(section, stage) is None:
            message = "needs a stage after it that trains: its profile says what can be trained on"
            yield document.problem(where, f"{stage.name} {message}")
        if stage.profile is not None:
            yield from _profile_problems(section, stage, document, where, data)
        if stage.expectations is not None and not os.path.isfile(stage.expectations):
            message = f"there is no file {stage.expectations}; write it: hpctrain data expect GOOD.h5 --out FILE"
            yield document.problem((*where, "expectations"), message)
        known.append(stage.name)


def _access_problems(section: PipelineSection, document: Document) -> Iterator[Problem]:
    try:
        site = load_site(section.launch.site) if section.launch.site else None
    except SiteError as error:
        yield document.problem(("launch", "site"), str(error))
        return
    message, key = problem_of(section.launch, site)
    if message:
        yield document.problem(("launch", key), message)


def _profile_problems(
    section: PipelineSection, stage: StageSection, document: Document, where: Sequence[Any], data: bool
) -> Iterator[Problem]:
    """Yield what ``hpctrain check`` finds, but for what depends on results of other stages."""
    assert stage.profile is not None
    changes = [each for each in stage.set if "{" not in each]
    if section.launch.cluster != AUTO:
        changes.append(f"launch.cluster={section.launch.cluster}")
    later = {each.partition("=")[0].strip() for each in stage.set if "{" in each}
    try:
        found = check_profile(stage.profile, changes, memory=False, data=data).problems
    except ProfileError as error:
        found = error.problems
    for problem in found:
        if not any(problem.where == key or problem.where.startswith(f"{key}.") for key in later):
            yield document.problem((*where, "profile"), f"{os.path.relpath(stage.profile)}: {problem}")
