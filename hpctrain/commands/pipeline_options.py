"""The options of hpctrain's own commands in a pipeline, checked before its first stage."""

from __future__ import annotations

import contextlib
import io
import shlex
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hpctrain.errors import Problem, ProfileError

if TYPE_CHECKING:
    from hpctrain.pipeline.section import PipelineSection


_PACKAGES = {
    ("track", "mlflow"): ("mlflow", "mlflow"),
    ("track", "wandb"): ("wandb", "wandb"),
    ("data", "expect"): ("statsmodels", "validation"),
    ("data", "validate"): ("statsmodels", "validation"),
}
"""Words of a command to the package that it needs beyond those of every installation, and the extra that has it."""


def check_options(section: PipelineSection, file: str, packages: bool = True) -> None:
    """Parse the options of hpctrain's commands and look for their packages, before anything runs for hours.

    Parameters
    ----------
    section : PipelineSection
    file : str
        Name of the pipeline file, for messages.
    packages : bool
        Look for packages, too: the stages run on this machine, or on one like it.

    Raises
    ------
    ProfileError
        There are wrong ones; the message lists all.
    """
    from hpctrain.cli import COMMANDS, command_parser
    from hpctrain.pipeline.kinds import commands_of

    problems = []
    for number, stage in enumerate(section.stages):
        for _, *words in (command for command in commands_of(section, stage) if command[:1] == ["hpctrain"]):
            said = io.StringIO()
            try:
                with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                    if not words or words[0] not in COMMANDS:
                        raise SystemExit(2)
                    command_parser(words[0]).parse_args(words[1:])
            except SystemExit as ended:
                if ended.code:
                    why = said.getvalue().strip().rpartition("error: ")[2] or "there is no such command of hpctrain"
                    problems.append(
                        Problem(f"stages.{number}", f"{stage.name}: {shlex.join(['hpctrain', *words])}: {why}")
                    )
    problems += _missing_packages(section) if packages else []
    if problems:
        raise ProfileError(file, problems)


def _missing_packages(section: PipelineSection) -> list[Problem]:
    from hpctrain.pipeline.kinds import commands_of

    problems = []
    for number, stage in enumerate(section.stages):
        words = {word for command in commands_of(section, stage) if command[:1] == ["hpctrain"] for word in command}
        for package, extra in (value for key, value in _PACKAGES.items() if words >= set(key)):
            if not stage.skip and find_spec(package) is None:
                message = f"{stage.name} needs the package {package}: pip install 'hpctrain[{extra}]'"
                problems.append(Problem(f"stages.{number}", message))
    return problems
