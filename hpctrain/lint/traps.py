"""The traps of a script: which signals the batch shell catches, and what it then does."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpctrain.lint.script import BatchScript
from hpctrain.lint.shell import Command

NOT_SIGNALS = {"EXIT", "ERR", "DEBUG", "RETURN", "0"}
NUMBERS = {"1": "HUP", "2": "INT", "10": "USR1", "12": "USR2", "15": "TERM", "18": "CONT"}


@dataclass(frozen=True)
class Trap:
    """One ``trap ACTION SIGNAL...``.

    Parameters
    ----------
    command : Command
    action : str
        What the shell does: commands, or the name of a function; empty if the signal is ignored.
    signals : tuple of str
        Names without ``SIG``.
    """

    command: Command
    action: str
    signals: tuple[str, ...]


def signal_name(text: str) -> str:
    """Return ``USR1`` for ``SIGUSR1``, ``usr1`` or ``10``."""
    return NUMBERS.get(text, text.upper().removeprefix("SIG"))


def traps(script: BatchScript) -> list[Trap]:
    """Return the traps that a script sets for signals, not those for its exit."""
    found = []
    for command in script.commands:
        values = [value for value in command.values[1:] if value != "--"]
        if command.name == "trap" and len(values) > 1 and values[0] not in ("-", "-p", "-l"):
            signals = tuple(signal_name(value) for value in values[1:])
            if set(signals) - NOT_SIGNALS:
                found.append(Trap(command, values[0], signals))
    return found


def done_by(trap: Trap, script: BatchScript) -> list[Command]:
    """Return the commands of a trap, also those of the functions that it calls."""
    from hpctrain.lint.shell import commands

    reached, names = list(commands(trap.action, trap.command.line)), set()
    for command in reached:
        if command.name and command.name not in names:
            names.add(command.name)
            reached += [each for each in script.commands if each.function == command.name]
    return reached


def warning_signal(script: BatchScript) -> tuple[str, bool] | None:
    """Return the signal of ``--signal`` and whether the batch shell gets it (``B:``), or None."""
    found = re.fullmatch(r"(?:([RB]{1,2}):)?(\w+)(?:@\d+)?", script.value("signal") or "")
    return (signal_name(found[2]), "B" in (found[1] or "")) if found else None
