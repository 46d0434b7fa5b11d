"""Exit codes: whether Slurm learns that the training failed."""

from __future__ import annotations

import re

from hpctrain.lint.rule import Hits, rule
from hpctrain.lint.script import BatchScript
from hpctrain.lint.shell import Command

GROUP = "Exit codes"
_TALK = {
    "echo",
    "printf",
    "date",
    "deactivate",
    "conda",
    "mamba",
    "hostname",
    "sleep",
    "sacct",
    "seff",
    "module",
    "true",
    "pwd",
}


def _pipefail(script: BatchScript) -> bool:
    return (
        any(command.name == "set" and "pipefail" in command.text for command in script.commands)
        or "pipefail" in script.lines[0]
    )


@rule(
    "exit-code-lost",
    GROUP,
    "warning",
    "a failed training that ends as COMPLETED",
    """The exit code of a job is that of the last command of its script. After the training there is only an `echo` or
    the like, so Slurm says COMPLETED, mails success, and starts the jobs that depend on it.""",
    '`set -e` at the top, or `srun ...; code=$?` and `exit "$code"` at the end.',
)
def exit_code_lost(script: BatchScript) -> Hits:
    runs = [each.command.outermost for each in script.trainings]
    top = [command for command in script.commands if command.inside is None and command.function is None]
    if not runs or not top or script.errexit or any(run.function for run in runs):
        return
    last = runs[-1]
    after = top[_place(top, last) + 1 :]
    if (
        last.name == "exec"
        or last.then in ("&", "||", "&&")
        or last.condition
        or not after
        or any(_reads_code(command) for command in after)
    ):
        return
    end = after[-1]
    talks = all(command.name in _TALK or not command.words for command in after)
    if talks or (end.name == "exit" and end.values[1:] == ["0"]):
        ends_with = end.text[:30] or "an assignment"
        yield end.line, f"the job ends with the exit code of {ends_with!r}, not with that of line {last.line}"


def _reads_code(command: Command) -> bool:
    return any("$?" in word.raw for word in command.all_words)


def _place(items: list[Command], wanted: Command) -> int:
    return next((place for place, item in enumerate(items) if item is wanted), len(items))


@rule(
    "pipe-hides-exit-code",
    GROUP,
    "warning",
    "a pipe that hides a failed training",
    """The exit code of a pipe is that of its last command: tee succeeds although the training has failed (measured:
    0).""",
    "`set -o pipefail` at the top, or let Slurm write the file (`--output`).",
)
def pipe_hides_exit_code(script: BatchScript) -> Hits:
    if _pipefail(script) or any("PIPESTATUS" in row for row in script.lines):
        return
    for each in script.trainings:
        if each.command.outermost.then in ("|", "|&"):
            yield each.command.line, f"{each.command.name} into a pipe without pipefail"


@rule(
    "errexit-skips-rest",
    GROUP,
    "warning",
    "set -e ends the script before its exit code is looked at",
    """With `set -e` the shell ends at the failed command: what reads `$?` in the next line, copies results or requeues
    the job, is reached only after a success.""",
    "`code=0; srun ... || code=$?`, and then look at `$code`.",
)
def errexit_skips_rest(script: BatchScript) -> Hits:
    errexit = script.errexit
    if not errexit:
        return
    relaxed = any(
        command.name == "set" and re.search(r"\+\w*e|\+o errexit", command.text) for command in script.commands
    )
    if relaxed:
        return
    top = [command for command in script.commands if command.inside is None]
    for each in script.trainings or script.steps:
        run = each.command.outermost
        place = _place(top, run) + 1
        following = top[place] if place < len(top) else None
        if following is None or run.then not in ("\n", ";") or run.condition or run.line < errexit.line:
            continue
        if _reads_code(following):
            yield following.line, f"$? of line {run.line} is always 0 here (set -e in line {errexit.line})"
