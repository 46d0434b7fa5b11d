"""The commands of a stage, and the stages that they read. Placeholders such as ``{ingest}`` are still in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from hpctrain.pipeline.section import (
    CHALLENGE,
    EVALUATE,
    GATE,
    INGEST,
    LOG,
    REGISTER,
    SPLIT,
    TRAIN,
    VALIDATE,
    PipelineSection,
    StageSection,
)

OUT = "out"
_NAME = re.compile(r"\{([A-Za-z0-9][A-Za-z0-9._-]*)\}")
GATES_FAILED = 7


def names_in(texts: Sequence[str]) -> list[str]:
    """Return the names between braces, each once."""
    return list(dict.fromkeys(name for text in texts for name in _NAME.findall(text)))


def filled(text: str, places: Mapping[str, str]) -> str:
    """Return a text with the folders of stages in place of their names; unknown names stay."""
    return _NAME.sub(lambda match: places.get(match[1], match[0]), text)


def needs_of(section: PipelineSection, stage: StageSection) -> list[str]:
    """Return the names of the stages whose results a stage reads; those that are skipped are replaced by their own."""
    known = [each.name for each in section.stages[: section.stages.index(stage)]]
    named = [name for name in names_in(_texts(section, stage)) if name in known]
    wanted = stage.needs if stage.needs is not None else named or known[-1:]
    found: list[str] = []
    for name in wanted:
        other = section.stage(name)
        found += needs_of(section, other) if other.skip else [name]
    return list(dict.fromkeys(found))


def waits_for(section: PipelineSection, stage: StageSection) -> list[str]:
    """Return the names of the stages that must be done well before this one starts.

    These are the ones that it reads and, unless it lists its needs itself, the one before it: no model is registered
    before its gate, although it reads only the trained one.
    """
    found = needs_of(section, stage)
    before = [each.name for each in section.stages[: section.stages.index(stage)] if not each.skip]
    if stage.needs is None and before:
        found.append(before[-1])
    return list(dict.fromkeys(found))


def all_before(section: PipelineSection, stage: StageSection) -> list[str]:
    """Return the names of all stages that must be done before a stage, in the order of the file."""
    found, left = set(), waits_for(section, stage)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += waits_for(section, section.stage(name))
    return [each.name for each in section.stages if each.name in found]


def trainer_before(section: PipelineSection, stage: StageSection) -> str:
    """Return the name of the last stage that trains before this one; empty if there is none."""
    before = section.stages[: section.stages.index(stage)]
    return next((each.name for each in reversed(before) if each.does == TRAIN and not each.skip), "")


def trainer_after(section: PipelineSection, stage: StageSection) -> StageSection | None:
    """Return the first stage that trains after this one; None if there is none."""
    after = section.stages[section.stages.index(stage) + 1 :]
    return next((each for each in after if each.does == TRAIN and not each.skip), None)


def commands_of(section: PipelineSection, stage: StageSection) -> list[list[str]]:
    """Return the commands of a stage as lists of words; none for a stage that trains."""
    if stage.run:
        return [shlex.split(command) for command in stage.commands]
    trainer = trainer_before(section, stage)
    run = "{" + trainer + "}"
    judge = ["hpctrain", "validate", run, "--profile", str(section.stage(trainer).profile)] if trainer else []
    made = {
        INGEST: lambda: [["hpctrain", "ingest", stage.source or "", *stage.inputs, "--out", "{out}/data.h5"]],
        VALIDATE: lambda: [_validate_data(section, stage)],
        SPLIT: lambda: _audit(trainer_after(section, stage)),
        EVALUATE: lambda: [judge, ["cp", f"{run}/results/validation.json", "{out}"]],
        GATE: lambda: [judge],
        REGISTER: lambda: [["hpctrain", "registry", "add", run, "--name", stage.model or "", *_alias(stage)]],
        CHALLENGE: lambda: [_challenge(section, stage, run)],
        LOG: lambda: [["hpctrain", "track", run, "--to", stage.to or ""]],
    }
    return [[*command, *stage.options] for command in made[stage.does]()] if stage.does in made else []


def allowed_codes(stage: StageSection) -> tuple[int, ...]:
    """Return the exit codes with which a command of a stage has done its work.

    Gates that fail are the business of the stage ``gate``; an evaluation only measures.
    """
    return (0, GATES_FAILED) if stage.does == EVALUATE else (0,)


def _validate_data(section: PipelineSection, stage: StageSection) -> list[str]:
    before = section.stages[: section.stages.index(stage)]
    last = next((each.name for each in reversed(before) if not each.skip), OUT)
    data = stage.data or "{" + last + "}/*.h5"
    reference = ["--reference", stage.reference] if stage.reference else []
    command = ["hpctrain", "data", "validate", data, "--against", stage.expectations or "", *reference]
    return [*command, "--out", "{out}/page.html"]


def _challenge(section: PipelineSection, stage: StageSection, run: str) -> list[str]:
    """Return the command that compares a candidate with the version in service, and promotes it if it is better."""
    profile = section.stage(trainer_before(section, stage)).profile
    named = ["--metric", *stage.metrics] if stage.metrics else []
    allowed = ["--allow", str(stage.allow)] if stage.allow else []
    command = ["hpctrain", "challenge", run, "--model", section.model_of(stage) or "", *_alias(stage), *named, *allowed]
    data = ["--frozen", *stage.frozen, "--newest", stage.newest or ""]
    return [*command, *data, "--profile", str(profile), "--out", "{out}/challenge.json", "--promote"]


def _audit(trainer: StageSection | None) -> list[list[str]]:
    """Return the command that looks for leaks in the data and the split of a profile before it is trained."""
    if trainer is None:
        return []
    return [["hpctrain", "audit", str(trainer.profile), *(["--set", *trainer.set] if trainer.set else [])]]


def _alias(stage: StageSection) -> list[str]:
    return ["--alias", stage.alias] if stage.alias else []


def _texts(section: PipelineSection, stage: StageSection) -> list[str]:
    commands = [word for command in commands_of(section, stage) for word in command]
    return [*commands, *stage.set, *stage.options, *([stage.data] if stage.data else [])]
