"""The pipeline file: its stages, what each of them needs, and where it runs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from hpctrain.expectations.section import Share
from hpctrain.pipeline.section_parts import DriftPart, ReplayPart, StageLaunchSection, StageWord, StartSection
from hpctrain.profile.sections.base import Line, Name, PathText, Section, Switch
from hpctrain.profile.sections.launch import LaunchSection

INGEST, VALIDATE, PREPROCESS, FEATURES, SPLIT = "ingest", "validate", "preprocess", "features", "split"
TRAIN, EVALUATE, GATE, REGISTER, LOG = "train", "evaluate", "gate", "register", "log"
NEW, CHALLENGE, COMMAND = "new", "challenge", "command"
STANDARD = (INGEST, NEW, VALIDATE, PREPROCESS, FEATURES, SPLIT, TRAIN, EVALUATE, GATE, REGISTER, CHALLENGE, LOG)
"""Stages that are known by their names, in their order. A pipeline may lack some and have others."""

Kind = Literal[
    "ingest",
    "validate",
    "preprocess",
    "features",
    "split",
    "train",
    "evaluate",
    "gate",
    "register",
    "log",
    "new",
    "challenge",
    "command",
]


class StageSection(Section):
    """One stage: a command of hpctrain by its name, or commands of one's own."""

    name: Name
    """Name of the stage, and of its folder; other stages name its results ``{name}``."""
    kind: Kind | None = None
    """What it does; if unset, what its name says, else ``command``."""
    run: StageWord | list[StageWord] = []
    """Commands, one after the other, without a shell. ``{out}`` is the folder for the stage's results, ``{ingest}``
    that of a stage named ingest, ``{train}`` the run directory of a stage that trains."""
    needs: list[Name] | None = None
    """Stages that must be done before it; if unset, those that its commands name, and the stage before it."""
    inputs: list[PathText] = []
    """Files or glob patterns from outside; if their contents change, the stage is done again."""
    outputs: list[StageWord] = []
    """Names of results that must be there at the end."""
    skip: Switch = False
    """Leave the stage out; those that need it get the results of the stages that it needs."""
    always: Switch = False
    """Do it again each time, even if nothing has changed."""
    options: list[StageWord] = []
    """More words for the command of a standard stage."""
    source: Name | None = None
    """Of ``ingest``: what ``hpctrain ingest`` calls the survey, such as ``sdss``."""
    expectations: PathText | None = None
    """Of ``validate``, and of ``new`` with `drift`: the file of ``hpctrain data expect``."""
    data: StageWord | None = None
    """Of ``validate`` and ``new``: the files to look at; of ``validate``, if unset, all HDF5 files of the stage
    before."""
    reference: Line | None = None
    """Of ``validate``: run, file, or ``registry:photoz@champion``, whose data are what new data are compared with."""
    profile: PathText | None = None
    """Of ``train``: the profile."""
    set: list[StageWord] = []
    """Of ``train``: changes of the profile, such as ``data.files=["{ingest}/spectra.h5"]``."""
    start: StartSection | None = None
    """Of ``train``: the registered version, or the run, whose weights a network starts from."""
    replay: ReplayPart | None = None
    """Of ``train``: old data to train on again."""
    model: Name | None = None
    """Of ``register``, ``new`` and ``challenge``: name of the model in the registry; one of them is enough."""
    alias: Name | None = None
    """Of ``register``: alias that the new version gets, such as ``candidate``. Of ``new`` and ``challenge``: alias of
    the version in service (champion)."""
    min_objects: Annotated[int, Field(ge=1)] | None = None
    """Of ``new``: smallest number of good new objects; with fewer the pipeline ends well, until there are more."""
    drift: DriftPart | None = None
    """Of ``new``: train only if there is drift."""
    frozen: list[PathText] = []
    """Of ``challenge``: files that never change; their objects on the test side judge every version."""
    newest: StageWord | None = None
    """Of ``challenge``: the newest data, such as ``{new}/*.h5``; their objects on the test side judge, too."""
    metrics: list[Line] = []
    """Of ``challenge``: metrics that count; the first one decides. If unset, the usual ones."""
    allow: Share = 0.0
    """Of ``challenge``: share of the champion's value by which a metric may be worse."""
    to: Literal["mlflow", "wandb"] | None = None
    """Of ``log``: the tracker."""
    launch: StageLaunchSection = StageLaunchSection()

    only_for: ClassVar[dict[str, tuple[str, ...]]] = {
        "source": (INGEST,),
        "expectations": (VALIDATE, NEW),
        "data": (VALIDATE, NEW),
        "reference": (VALIDATE,),
        "profile": (TRAIN,),
        "set": (TRAIN,),
        "start": (TRAIN,),
        "replay": (TRAIN,),
        "model": (REGISTER, NEW, CHALLENGE),
        "alias": (REGISTER, NEW, CHALLENGE),
        "min_objects": (NEW,),
        "drift": (NEW,),
        "frozen": (CHALLENGE,),
        "newest": (CHALLENGE,),
        "metrics": (CHALLENGE,),
        "allow": (CHALLENGE,),
        "to": (LOG,),
    }
    """Keys that have a meaning for some kinds only."""
    needed: ClassVar[dict[str, tuple[str, ...]]] = {
        INGEST: ("source", "inputs"),
        VALIDATE: ("expectations",),
        TRAIN: ("profile",),
        REGISTER: ("model",),
        NEW: ("data",),
        CHALLENGE: ("frozen", "newest"),
        LOG: ("to",),
    }
    """Keys that a standard stage without commands of its own needs."""

    @model_validator(mode="after")
    def _fits_together(self) -> StageSection:
        if wrong := [key for key, kinds in self.only_for.items() if getattr(self, key) and self.does not in kinds]:
            raise ValueError(f"{wrong[0]} has no meaning for a stage of the kind {self.does}; remove it")
        if self.run and self.does == TRAIN:
            raise ValueError("a stage that trains has a profile instead of commands; remove run")
        if not self.run and self.does in (COMMAND, PREPROCESS, FEATURES):
            raise ValueError(f"a stage of the kind {self.does} needs run, its commands")
        if self.drift is not None and self.expectations is None:
            raise ValueError("drift needs expectations, the file of hpctrain data expect")
        if not self.run and (missing := [key for key in self.needed.get(self.does, ()) if not getattr(self, key)]):
            raise ValueError(f"a stage of the kind {self.does} needs {' and '.join(missing)}, or run with its commands")
        return self

    @property
    def does(self) -> str:
        """The kind of the stage."""
        return self.kind or (self.name if self.name in STANDARD else COMMAND)

    @property
    def commands(self) -> list[str]:
        """Its own commands."""
        return [self.run] if isinstance(self.run, str) else self.run


class StageSample(Section):
    """Changes of a stage for a time through on a small sample; keys that are unset stay as they are."""

    inputs: list[PathText] | None = None
    """Files of the sample, instead of those of the stage."""
    run: StageWord | list[StageWord] | None = None
    """Commands, instead of those of the stage."""
    options: list[StageWord] | None = None
    """More words for the command of a standard stage, instead of those of the stage."""
    expectations: PathText | None = None
    """Of ``validate``: what a sample must be like."""
    set: list[StageWord] | None = None
    """Of ``train``: more changes of the profile, such as ``train.max_steps=50``."""
    skip: Switch | None = None
    """Leave the stage out; if unset, stages of the kinds ``gate``, ``register`` and ``log`` are left out."""


class PipelineSection(Section):
    """A pipeline."""

    name: Name
    """Name of the pipeline's folder and of its jobs."""
    description: Line = ""
    """One line that the report shows."""
    folder: PathText = "pipelines"
    """Folder of all pipelines; relative to the directory in which you call the command."""
    launch: LaunchSection = LaunchSection(gpus_per_node=0, cpus_per_rank=1)
    """Where stages run, and the options of Slurm that all of them share; stages that train have those of their
    profile."""
    stages: Annotated[list[StageSection], Field(min_length=1, max_length=100)]
    """The stages, in an order in which each comes after those that it needs."""
    sample: dict[Name, StageSample] = {}
    """Changes of stages, by their names, for ``--sample``: small inputs and few steps, to try it at each commit."""

    @model_validator(mode="after")
    def _names_earlier_stages(self) -> PipelineSection:
        known: set[str] = set()
        for stage in self.stages:
            if stage.name in known:
                raise ValueError(f"two stages have the name {stage.name}")
            for need in stage.needs or ():
                if need not in known:
                    raise ValueError(f"{stage.name} needs {need}, and no stage before it has this name")
            known.add(stage.name)
        return self

    def stage(self, name: str) -> StageSection:
        """Return a stage by its name."""
        return next(stage for stage in self.stages if stage.name == name)

    def model_of(self, stage: StageSection) -> str | None:
        """Return the name in the registry that a stage means: its own, else that of any other stage."""
        own = stage.model or (stage.replay and stage.replay.model)
        return own or next((each.model for each in self.stages if each.model is not None), None)
