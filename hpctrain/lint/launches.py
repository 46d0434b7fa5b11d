"""Which programs the commands of a script start, and through what: srun, mpirun, torchrun, a container."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from hpctrain.lint.shell import Command
from hpctrain.lint.words import Word

_SRUN_FLAGS = {
    *("label", "unbuffered", "kill-on-bad-exit", "verbose", "quiet", "exclusive", "exact", "overlap", "overcommit"),
    *("oversubscribe", "pty", "no-kill", "multi-prog", "preserve-env", "disable-status", "quit-on-interrupt", "whole"),
    *("mpi-combine", "contiguous", "use-min-nodes", "no-allocate", "no-shell", "immediate", "no-container-mount-home"),
    *("container-writable", "container-remap-root", "container-mount-home", "no-container-entrypoint", "external"),
    *("container-readonly", "no-container-remap-root", "spread-job", "reboot", "hold", "interactive"),
}
_SRUN_SHORT_WITH_VALUE = "nNctpAJoeiwxCDdGmTWqLMPSBr"
_SRUN_SHORT = {
    "n": "ntasks",
    "N": "nodes",
    "c": "cpus-per-task",
    "K": "kill-on-bad-exit",
    "u": "unbuffered",
    "l": "label",
    "o": "output",
    "e": "error",
    "w": "nodelist",
    "r": "relative",
    "G": "gpus",
    "m": "distribution",
    "W": "wait",
    "t": "time",
    "O": "overcommit",
    "k": "no-kill",
}
_WRAPPERS = {"exec", "time", "nohup", "command", "env", "nice", "stdbuf", "numactl", "taskset", "timeout", "eval"}
_CONTAINERS = {"singularity", "apptainer", "shifter", "podman", "docker", "enroot"}
_MPI = {"mpirun", "mpiexec", "mpiexec.hydra", "prun", "ibrun", "jsrun", "aprun", "horovodrun", "parallel", "pdsh"}
_MPI_VALUED = ("-np", "-n", "-N", "-x", "--map-by", "--bind-to", "-ppn", "-genv", "-mca", "--mca")
_TRAINERS = {"torchrun", "accelerate", "deepspeed", "horovodrun", "lightning", "composer", "fabric", "colossalai"}
_SMALL = {
    *("hostname", "nvidia-smi", "echo", "date", "env", "printenv", "mkdir", "cp", "rm", "ls", "cat", "sleep", "true"),
    *("scontrol", "rsync", "tar", "unzip", "pwd", "whoami", "nproc", "sbcast", "killall", "pkill", "ln", "chmod", "df"),
    *("dcgmi", "rocm-smi", "which", "lscpu", "ulimit", "module", "numactl", "touch", "wget", "kill"),
}
_PYTHON = re.compile(r"(?:ipython|pypy|python)[\d.]*|\$\{?\w*(?:PYTHON|python|PY)\w*\}?")


@dataclass(frozen=True)
class Launch:
    """One command that starts a program.

    Parameters
    ----------
    command : Command
    through : tuple of str
        The launchers before the program, such as ``("srun", "torchrun")``.
    srun : dict of str to str
        Options of srun by their long names; empty values for flags.
    program : list of Word
        The program and its arguments.
    """

    command: Command
    through: tuple[str, ...]
    srun: dict[str, str]
    program: list[Word]

    @property
    def is_small(self) -> bool:
        """Whether it is a short command that looks at the node or moves files."""
        if not self.program:
            return True
        values = [word.value for word in self.program]
        if re.search(r"python\S*( -u)? -c |torch\.cuda|--version", " ".join(values)):
            return True
        name = values[0].rpartition("/")[2]
        return name in _SMALL or name in ("bash", "sh")

    @property
    def is_training(self) -> bool:
        """Whether it starts Python or a launcher of Python processes, and not for a moment."""
        if not self.program or self.is_small:
            return False
        first = self.program[0].value.rpartition("/")[2]
        if self.through and re.fullmatch(r"\$[@*]|\$\{?\w*(CMD|COMMAND|LAUNCHER)\w*\}?", first, re.IGNORECASE):
            return True
        arguments = [word.value for word in self.program[1:3]]
        if _PYTHON.fullmatch(first):
            return arguments[:1] not in (["-c"], ["-V"], ["--version"]) and arguments[:2] not in (
                ["-m", "pip"],
                ["-m", "venv"],
            )
        return first in _TRAINERS or first.endswith(".py")


Expand = Callable[[Word], list[Word]]


def launch_of(command: Command, expand: Expand) -> Launch | None:
    """Return what a command starts, or None if it is an assignment.

    Parameters
    ----------
    command : Command
    expand : callable
        Function that returns the words of which a variable consists; of any other word, a list with the word itself.
    """
    words = [each for word in command.words for each in expand(word)]
    through: list[str] = []
    srun: dict[str, str] = {}
    for above in _above(command):
        outer = launch_of(above, expand)
        if outer and outer.through and above.name not in ("echo", "printf"):
            through += outer.through
            srun |= outer.srun
    words = _unwrap(words, through, srun, expand)
    if not words and not through:
        return None
    return Launch(command, tuple(through), srun, words)


def _unwrap(words: list[Word], through: list[str], srun: dict[str, str], expand: Expand) -> list[Word]:
    """Return the words of the program; add the launchers before it to `through`, and the options of srun to `srun`."""
    while words:
        name = words[0].value.rpartition("/")[2]
        if name == "srun":
            through.append("srun")
            words = _after_srun(words[1:], srun)
        elif name in _MPI:
            through.append("mpirun")
            words = _after_options(words[1:], _MPI_VALUED)
        elif name in _CONTAINERS:
            through.append("container")
            words = _after_container(words[1:])
        elif name in _WRAPPERS and len(words) > 1:
            words = _after_wrapper(name, words[1:])
        elif "=" in words[0].value and words[0].assignment and through:
            words = words[1:]
        elif through and name in ("bash", "sh") and len(words) > 2 and words[1].value.endswith("c"):
            inner = expand(words[2])
            if len(inner) < 2:
                break
            words = inner
        else:
            break
    return words


def _above(command: Command) -> list[Command]:
    return [command.inside] if command.inside and "-c" in " ".join(command.inside.values) else []


def _after_srun(words: list[Word], options: dict[str, str]) -> list[Word]:
    at = 0
    while at < len(words) and words[at].value.startswith("-"):
        value = words[at].value
        at += 1
        if value.startswith("--"):
            name, equals, given = value[2:].partition("=")
            if not equals and name not in _SRUN_FLAGS and at < len(words):
                given = words[at].value
                at += 1
            options[name] = given
        elif len(value) > 1:
            letter, rest = value[1], value[2:]
            if letter in _SRUN_SHORT_WITH_VALUE and not rest and at < len(words):
                rest = words[at].value
                at += 1
            for each in letter if letter in _SRUN_SHORT_WITH_VALUE else value[1:]:
                options[_SRUN_SHORT.get(each, each)] = rest if letter in _SRUN_SHORT_WITH_VALUE else ""
    return words[at:]


def _after_options(words: list[Word], valued: tuple[str, ...] = ()) -> list[Word]:
    at = 0
    while at < len(words) and words[at].value.startswith("-"):
        at += 2 if words[at].value in valued else 1
    return words[at:]


def _after_container(words: list[Word]) -> list[Word]:
    """Skip ``exec OPTIONS IMAGE``; an option may take a value, so look for the program that follows the image."""
    for at, word in enumerate(words):
        name = word.value.rpartition("/")[2]
        if _PYTHON.fullmatch(name) or name in _TRAINERS or name in ("bash", "sh"):
            return words[at:]
    return []


def _after_wrapper(name: str, words: list[Word]) -> list[Word]:
    valued = {"nice": ("-n",), "timeout": ("-s", "-k"), "env": ("-u",), "stdbuf": ("-o", "-e", "-i")}.get(name, ())
    words = _after_options(words, valued)
    if name == "timeout":
        return words[1:]
    if name == "env":
        while words and words[0].assignment:
            words = words[1:]
    return words
