"""One batch script: its lines, the options that sbatch reads, its commands, and what follows from both."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hpctrain.lint.header import Header, Option, read_header
from hpctrain.lint.launches import Launch, launch_of
from hpctrain.lint.shell import Command, commands
from hpctrain.lint.words import Word, tokens

_GPU = re.compile(r"(?:gres[:/])?gpu(?::[A-Za-z_][\w.-]*)?(?:[:=](\d+))?(?:\(.*\))?$")
SAME_IN_ALL_TASKS = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_TASK_PID")


@dataclass(frozen=True)
class BatchScript:
    """A batch script as text.

    Parameters
    ----------
    text : str
        The whole file; line breaks of DOS are kept.
    path : Path or None
        Where it is, to look for the folders that it names.
    """

    text: str
    path: Path | None = None

    @cached_property
    def lines(self) -> list[str]:
        """The lines without line breaks."""
        return self.text.replace("\r\n", "\n").split("\n")

    @cached_property
    def header(self) -> Header:
        """The ``#SBATCH`` lines."""
        return read_header(self.lines)

    @cached_property
    def commands(self) -> list[Command]:
        """All simple commands."""
        return commands(self.text.replace("\r\n", "\n"))

    @cached_property
    def launches(self) -> list[Launch]:
        """What the commands start, without what is inside another launch's text."""
        return [launch for command in self.commands if (launch := launch_of(command, self._expand))]

    def _expand(self, word: Word) -> list[Word]:
        """Return the words in a variable that the script sets: ``$SRUN_ARGS``, ``"$CMD"``."""
        found = re.fullmatch(r"\$\{?(\w+)\}?", word.value)
        if not found or found[1] not in self.assigned or self.assigned[found[1]].substitutions:
            return [word]
        return [each for each in tokens(self.resolved(word.value), word.line) if isinstance(each, Word)]

    @cached_property
    def trainings(self) -> list[Launch]:
        """The launches of Python programs and of their launchers."""
        return [each for each in self.launches if each.is_training]

    @cached_property
    def steps(self) -> list[Launch]:
        """The launches by srun that are more than a glance at the node."""
        return [each for each in self.launches if each.command.name == "srun" and not self._is_glance(each)]

    @cached_property
    def _launches_within(self) -> dict[int, list[Launch]]:
        """The launches in the text of each command, by the identity of the command."""
        found: dict[int, list[Launch]] = {}
        for each in self.launches:
            found.setdefault(id(each.command.inside), []).append(each)
        return found

    def _is_glance(self, step: Launch) -> bool:
        inner = self._launches_within.get(id(step.command))
        if inner:
            return all(each.is_small for each in inner)
        shell = step.program and step.program[0].value.rpartition("/")[2] in ("bash", "sh")
        return step.is_small and not shell

    def option(self, name: str) -> Option | None:
        """Return the option that counts, the last of its name, or None."""
        return next((each for each in reversed(self.header.options) if each.name == name), None)

    def value(self, name: str) -> str | None:
        """Return the value of an option, or None."""
        option = self.option(name)
        return option.value if option else None

    def number(self, name: str) -> int | None:
        """Return the value of an option as a number (of a range, the smaller one), or None."""
        found = re.match(r"(\d+)(?:-\d+)?$", self.value(name) or "")
        return int(found[1]) if found else None

    @cached_property
    def assigned(self) -> dict[str, Word]:
        """The last value that the script gives each variable, by ``NAME=``, ``export NAME=`` or ``declare``."""
        found: dict[str, Word] = {}
        for command in self.commands:
            if not command.words:
                found |= command.assignments
            elif command.name in ("export", "declare", "readonly", "local", "typeset"):
                found |= dict(pair for word in command.words[1:] if (pair := word.assignment))
        return found

    def resolved(self, text: str, depth: int = 4) -> str:
        """Return a text in which variables that the script sets to plain values are replaced by these."""

        def put(found: re.Match[str]) -> str:
            word = self.assigned.get(found[1] or found[2])
            return word.value if word is not None and not word.substitutions else found[0]

        replaced = re.sub(r"\$(?:\{(\w+)\}|(\w+))", put, text)
        return replaced if replaced == text or not depth else self.resolved(replaced, depth - 1)

    @property
    def nodes(self) -> int | None:
        """Number of nodes; 1 if nothing says otherwise, None if it cannot be known."""
        if self.option("nodes"):
            return self.number("nodes")
        if self.option("nodelist"):
            return None
        return 1 if (self.number("ntasks") or 1) == 1 or self.option("ntasks-per-node") is None else None

    @property
    def tasks_per_node(self) -> int | None:
        """Number of tasks on a node, or None if it cannot be known."""
        if self.option("ntasks-per-node"):
            return self.number("ntasks-per-node")
        if self.option("ntasks"):
            tasks, nodes = self.number("ntasks"), self.nodes
            return max(1, tasks // nodes) if tasks and nodes else None
        return None if self.option("ntasks-per-gpu") or self.option("ntasks-per-socket") else 1

    @property
    def tasks(self) -> int | None:
        """Number of tasks of the job, or None if it cannot be known."""
        if self.option("ntasks"):
            return self.number("ntasks")
        nodes, each = self.nodes, self.tasks_per_node
        return nodes * each if nodes and each else None

    @property
    def cores_per_task(self) -> int | None:
        """Number of cores of a task, or None if it cannot be known."""
        if self.option("cpus-per-gpu"):
            each, gpus, tasks = self.number("cpus-per-gpu"), self.gpus_per_node, self.tasks_per_node
            return max(1, each * gpus // tasks) if each and gpus and tasks else None
        return self.number("cpus-per-task") if self.option("cpus-per-task") else 1

    @property
    def gpus_per_node(self) -> int | None:
        """Number of GPUs of a node: 0 if none are asked for, None if it cannot be known."""
        for name in ("gpus-per-node", "gres"):
            if self.option(name) and (count := _gpus(self.value(name) or "")) != 0:
                return count
        if self.option("gpus-per-task"):
            each, tasks = _gpus("gpu:" + (self.value("gpus-per-task") or "").rpartition(":")[2]), self.tasks_per_node
            return each * tasks if each and tasks else None
        if self.option("gpus"):
            total, nodes = _gpus("gpu:" + (self.value("gpus") or "").rpartition(":")[2]), self.nodes
            return max(1, total // nodes) if total and nodes else None
        return 0

    @property
    def asks_for_gpus(self) -> bool:
        """Whether the job asks for GPUs."""
        return self.gpus_per_node != 0

    @property
    def time_limit_min(self) -> float | None:
        """The time limit in minutes, or None if the script sets none that can be read."""
        return minutes(self.value("time") or "")

    @property
    def errexit(self) -> Command | None:
        """The command that lets the shell end at the first error (``set -e``), or None."""
        for command in self.commands:
            if command.name == "set" and command.function is None:
                values = command.values[1:]
                is_short = any(re.fullmatch(r"-[a-z]*e[a-z]*", value) for value in values)
                if is_short or "errexit" in values:
                    return command
        return None


def _gpus(text: str) -> int | None:
    """Return the number of GPUs in a list of resources; 0 if there are none, None if the number is no plain one."""
    for part in text.split(","):
        if part.isdecimal():
            return int(part)
        if part.startswith(("gpu", "gres:gpu", "gres/gpu")):
            found = _GPU.match(part)
            return (int(found[1]) if found[1] else 1) if found else None
        if (
            re.fullmatch(r"[A-Za-z]\w*:\d+", part)
            and "gpu" not in part
            and "," not in text
            and not part.startswith(("shard", "mps", "lscratch", "tmp", "nvme", "ssd", "craynetwork", "license"))
        ):
            return int(part.rpartition(":")[2])
    return None if "$" in text else 0


def minutes(text: str) -> float | None:
    """Return a time limit of Slurm in minutes, or None if it is none.

    Parameters
    ----------
    text : str
        ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours``, ``days-hours:minutes`` or
        ``days-hours:minutes:seconds``.
    """
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        return None
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, mins, seconds = (*parts, 0, 0)[:3]
        return int(days) * 1440 + hours * 60 + mins + seconds / 60
    if len(parts) == 3:
        return parts[0] * 60 + parts[1] + parts[2] / 60
    return parts[0] + (parts[1] / 60 if len(parts) == 2 else 0)
