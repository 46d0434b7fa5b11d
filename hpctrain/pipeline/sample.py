"""A pipeline on a small sample: changes of its stages with which it goes through in minutes, as at each commit."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from hpctrain.errors import Problem
from hpctrain.pipeline.section import GATE, LOG, REGISTER, TRAIN, PipelineSection, StageSample, StageSection
from hpctrain.profile.document import Document
from hpctrain.profile.near import did_you_mean
from hpctrain.profile.sections.base import MAX_NAME
from hpctrain.profile.sections.launch import LaunchSection

ENDING = "-sample"
LEFT_OUT = (GATE, REGISTER, LOG)
"""Kinds that a sample leaves out: its model passes no gate, and nobody wants it in a registry or a tracker."""
ON_ONE_CPU = ("launch.nodes=1", "launch.gpus_per_node=0")


def sample_of(section: PipelineSection, document: Document) -> tuple[PipelineSection, list[Problem]]:
    """Return a pipeline as its section ``sample`` changes it, and what is wrong with the changes.

    It has a folder of its own, runs on the CPUs of this machine, and judges, registers and tracks no model unless
    ``skip: false`` asks for it.
    """
    names = [stage.name for stage in section.stages]
    problems = [
        document.problem(("sample", name), f"there is no stage '{name}'{did_you_mean(name, names)}")
        for name in section.sample
        if name not in names
    ]
    stages = []
    for stage in section.stages:
        try:
            stages.append(_changed(stage, section.sample.get(stage.name, StageSample())))
        except ValidationError as error:
            message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            problems.append(document.problem(("sample", stage.name), message))
            stages.append(stage)
    changes = {
        "name": section.name[: MAX_NAME - len(ENDING)] + ENDING,
        "launch": LaunchSection(
            cluster="local",
            gpus_per_node=0,
            cpus_per_rank=1,
            access=section.launch.access,
            group=section.launch.group,
        ),
        "stages": stages,
        "sample": {},
    }
    return section.model_copy(update=changes), problems


def _changed(stage: StageSection, sample: StageSample) -> StageSection:
    values: dict[str, Any] = {**stage.model_dump(), **sample.model_dump(exclude_none=True)}
    if sample.skip is None:
        values["skip"] = stage.skip or stage.does in LEFT_OUT
    if stage.does == TRAIN or sample.set:
        values["set"] = [*stage.set, *ON_ONE_CPU, *(sample.set or ())]
    return StageSection.model_validate(values)
