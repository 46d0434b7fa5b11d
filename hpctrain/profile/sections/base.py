"""What all sections of a profile are made of: types of values with their limits, and the base class.

A YAML key, the field here, the heading in docs/profile.md and the path in an error message are the same word. The text
below a field is its description in the docs, with its unit. The limits of a single value are in these modules; rules
that need two sections, the machine or the disk are in ``rules_*.py``.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from hpctrain.plugins import TARGETS
from hpctrain.profile.targets import AUTO, MODULE_PATTERN, is_target_name

MAX_NAME = 64
NAME_PATTERN = rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}$"
"""Names are used in paths, ``#SBATCH`` lines and shells, so characters that any of these interpret are refused."""

SLURM_WORD_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.,:+*=@/&|\[\]()-]{0,254}$"
"""Values of Slurm options (partitions, constraints, node lists): no blank, quote, dollar or newline."""

MAX_TIME_LIMIT_S = 10_000 * 3600
"""Time limits have at most four digits of hours, which is more than a year; no queue allows more."""

_TIME_LIMIT = re.compile(r"^(?:(?P<days>\d{1,3})-)?(?P<hours>\d{1,4}):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d))?$")


def parse_time_limit_s(value: str | int) -> int:
    """Return a Slurm time limit in seconds.

    Parameters
    ----------
    value : str or int
        ``HH:MM:SS``, ``HH:MM``, ``D-HH:MM:SS``, or a whole number of minutes. Unlike sbatch, ``HH:MM`` is hours and
        minutes here: sbatch reads it as minutes and seconds, which nobody expects.

    Raises
    ------
    ValueError
        The value is not such a time, or is zero.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        seconds = value * 60
    else:
        match = _TIME_LIMIT.match(str(value))
        if not match:
            raise ValueError("is not a time; write HH:MM:SS or D-HH:MM:SS (such as 24:00:00), or minutes")
        days = int(match["days"] or 0)
        if days and int(match["hours"]) > 23:
            raise ValueError("has more than 23 hours after the days; write D-HH:MM:SS")
        seconds = ((days * 24 + int(match["hours"])) * 60 + int(match["minutes"])) * 60 + int(match["seconds"] or 0)
    if not 0 < seconds < MAX_TIME_LIMIT_S:
        raise ValueError("must be longer than zero and shorter than 10000 hours")
    return seconds


def _time_limit(value: Any) -> str:
    seconds = parse_time_limit_s(value)
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}"


def _target_name(value: str) -> str:
    if not is_target_name(value):
        raise PydanticCustomError("literal_error", "is not the name of a target")
    return value


def _one_line(value: str) -> str:
    if any(ord(character) < 32 for character in value):
        raise ValueError("must be one line without control characters")
    return value


def _sbatch_value(value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in value):
        raise ValueError("must be one line without control characters: it becomes one line of the job script")
    if "\\" in value:
        raise ValueError("holds a backslash, which Slurm would drop when it reads the job script; write it without")
    return value


def _path(value: str) -> str:
    if value.startswith("~"):
        raise ValueError("starts with ~, which only a shell expands; write ${HOME} instead")
    return _one_line(value)


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if not value[0] < value[1]:
        raise ValueError("must rise from the shorter to the longer wavelength")
    return value


def _switch(value: Any) -> Any:
    """Accept the yes, no, on, off of YAML 1.1 for a switch, and only there."""
    words = {"yes": True, "on": True, "no": False, "off": False}
    return words.get(value.lower(), value) if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
GroupName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
AccessName = Literal["private", "group", "public"]
SlurmWord = Annotated[str, Field(pattern=SLURM_WORD_PATTERN)]
TimeLimit = Annotated[str, BeforeValidator(_time_limit), Field(json_schema_extra={"type": ["string", "integer"]})]
TargetName = Annotated[
    str,
    AfterValidator(_target_name),
    Field(
        json_schema_extra={
            "anyOf": [{"enum": [AUTO, *TARGETS], "type": "string"}, {"pattern": MODULE_PATTERN, "type": "string"}]
        }
    ),
]
WavelengthRange = Annotated[
    tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]],
    Field(strict=False),  # YAML has lists, no tuples
    AfterValidator(_rising),
]
PathText = Annotated[str, Field(min_length=1), AfterValidator(_path)]
SbatchValue = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_sbatch_value)]
SbatchOptions = dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")], SbatchValue | int | bool]
Line = Annotated[str, AfterValidator(_one_line)]
Switch = Annotated[bool, BeforeValidator(_switch)]


class Section(BaseModel):
    """A part of the profile. Unknown keys are errors, and no value is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
