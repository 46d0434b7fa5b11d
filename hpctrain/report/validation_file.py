"""What ``results/validation.json`` holds: the numbers that say how good a finished model is.

``hpctrain validate`` writes it. The JSON Schema in ``hpctrain/validation/schema.json`` is made of these classes by
``hpctrain schema --validation``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hpctrain.drawing.described.figure import Figure

FORMAT = "hpctrain-validation"
Number = Annotated[float, Field(allow_inf_nan=False)] | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, use_attribute_docstrings=True)


class MetricScore(_Part):
    """A metric with its interval; None where it is not defined."""

    label: str
    """What people call it."""
    unit: str
    """As astropy writes it; empty for none."""
    better: Literal["lower", "higher", "zero"]
    """Which values are good."""
    description: str = ""
    references: list[str] = []
    value: Number
    low: Number
    """Lower end of the interval."""
    high: Number
    """Upper end of the interval."""
    n: Annotated[int, Field(ge=0)]
    """Number of objects that the metric depends on."""
    num_rows: Annotated[int, Field(ge=0)]
    """Number of their rows."""
    note: str = ""
    """Why the interval may be too narrow."""


class TaskScores(_Part):
    """One thing that the model predicts. Other keys are details of its kind, such as the confusion of classes."""

    kind: str
    metrics: dict[str, MetricScore]


class Check(_Part):
    """A number that was compared with the limits of a gate."""

    place: str
    """The objects."""
    value: Number
    low: Number
    high: Number
    num_objects: Annotated[int, Field(ge=0)]
    compared: Number
    """The value, or the end of the interval that is nearer to failing."""
    by: Number
    """Distance of `compared` from the nearest limit; negative beyond it."""
    judged: bool
    """Whether there were enough objects."""
    passed: bool


class Gate(_Part):
    """A limit, and whether the model keeps it. Other keys are those of the profile."""

    metric: str
    asked: str
    """What the gate asks for, in words."""
    said: str
    """What was found, in words."""
    passed: bool
    checks: list[Check]


class ValidationFile(_Part):
    """The whole file. Other keys are blocks of further judges, such as ``bins``."""

    format: Literal["hpctrain-validation"]
    version: Annotated[int, Field(ge=1)]
    hpctrain_version: str
    made_at: float
    """Seconds since 1970."""
    run: str
    """Name and id of the run."""
    family: str
    model_sha256: str | None
    """SHA-256 of model/model.safetensors."""
    split: Any = None
    """How the samples were held out: `data.split` of the model's card."""
    num_rows: Annotated[int, Field(ge=0)]
    """Held-out rows with predictions."""
    num_objects: Annotated[int, Field(ge=0)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Share of intervals that contain the true value."""
    draws: Annotated[int, Field(ge=1)]
    """Bootstrap draws of an interval."""
    tasks: dict[str, TaskScores]
    gates: list[Gate] = []
    figures: list[Figure] = []


def is_part(name: str) -> bool:
    """Return whether a metric is about a part, such as ``purity.STAR``; ``outliers_0.15`` is about the whole."""
    head, _, tail = name.partition(".")
    return bool(tail) and not (head[-1:].isdigit() and tail[:1].isdigit())


def read_validation(values: Any) -> ValidationFile:
    """Return the contents of a file from its plain values.

    Raises
    ------
    ValueError
        They are not those of such a file.
    """
    return ValidationFile.model_validate(values)
