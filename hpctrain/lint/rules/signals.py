"""Signals: whether a warning comes, and whether it reaches somebody who acts on it."""

from __future__ import annotations

from hpctrain.lint.rule import Hits, rule
from hpctrain.lint.script import BatchScript
from hpctrain.lint.shell import Command
from hpctrain.lint.traps import done_by, traps, warning_signal

GROUP = "Signals"
LONG_MIN = 60


@rule(
    "no-signal",
    GROUP,
    "warning",
    "no warning before the time limit",
    """At its time limit a job gets TERM and, after KillWait (30 s by default), KILL. Most trainers end at TERM without
    saving (Lightning did, measured), so all work since the last checkpoint is lost.""",
    """Add `#SBATCH --signal=USR2@180` (to the ranks that srun starts) or `--signal=B:USR1@180` (to this shell), and
    save when the signal comes. Slurm looks every half minute, so the warning can be 30 s late.""",
)
def no_signal(script: BatchScript) -> Hits:
    limit = script.time_limit_min
    if script.option("signal") or not script.trainings or not script.asks_for_gpus:
        return
    if limit is not None and limit >= LONG_MIN:
        yield script.header.options[0].line, f"a training of up to {limit / 60:g} hours without --signal"


@rule(
    "signal-never-arrives",
    GROUP,
    "error",
    "a warning that nobody gets",
    """Without `B:` Slurm sends the signal to the processes that srun has started. There is no srun here, so nobody
    gets it (measured: nothing at all arrives).""",
    """Start the program with `srun`, or write `--signal=B:USR1@180`, set a trap, and start the program in the
    background.""",
)
def signal_never_arrives(script: BatchScript) -> Hits:
    warning, option = warning_signal(script), script.option("signal")
    if warning and option and not warning[1] and script.trainings:
        started = any(
            "srun" in command.text or command.name in ("mpirun", "mpiexec", "sh", "bash", "source", ".")
            for command in script.commands
        )
        if not started:
            yield option.line, f"{option.raw} without srun"


@rule(
    "signal-ends-script",
    GROUP,
    "error",
    "a warning that ends the script",
    """`B:` sends the signal to the batch shell. The default of USR1, USR2, HUP and INT is to end the process: without
    a trap the job fails at the warning (measured: ExitCode 0:10 for USR1), and nothing is saved.""",
    "Set a trap (`trap 'warned=yes' USR1`) and pass the signal on; or omit `B:`, so that the ranks of srun get it.",
)
def signal_ends_script(script: BatchScript) -> Hits:
    warning, option = warning_signal(script), script.option("signal")
    if not warning or not option or not warning[1]:
        return
    caught = {name for trap in traps(script) for name in trap.signals}
    execs = any(command.name == "exec" and len(command.words) > 1 for command in script.commands)
    sources = any(
        command.name in ("source", ".") and "activate" not in command.text and "conda.sh" not in command.text
        for command in script.commands
    )
    if warning[0] not in caught and not execs and not sources and script.commands:
        yield option.line, f"{option.raw}, and no trap for {warning[0]}"


@rule(
    "trap-waits",
    GROUP,
    "error",
    "a trap that comes too late",
    """bash runs a trap only after the command in the foreground has ended. With the training in the foreground the
    trap runs when all is over (measured), or never, because KILL comes first.""",
    "Start the training with `&` and wait for it: `srun python train.py & wait $!`, and wait again after the trap.",
)
def trap_waits(script: BatchScript) -> Hits:
    set_here = [trap for trap in traps(script) if trap.command.inside is None and done_by(trap, script)]
    if not set_here:
        return
    trap = set_here[0]
    runs = [each.command for each in script.trainings or script.steps]
    own = {command.function for command in done_by(trap, script) if command.function}
    runs = [command.outermost for command in runs if command.function is None or command.function not in own]
    runs = [command for command in runs if command.line > trap.command.line or command.function]
    if runs and all(command.then not in ("&", "|") for command in runs) and not _in_background(script, runs):
        yield trap.command.line, f"the trap for {', '.join(trap.signals)} waits for the command in line {runs[0].line}"


def _in_background(script: BatchScript, runs: list[Command]) -> bool:
    """Return whether the function that runs the training is started in the background."""
    functions = {command.function for command in runs if command.function}
    return any(command.name in functions and command.then == "&" for command in script.commands)


@rule(
    "trap-substitutes",
    GROUP,
    "warning",
    "a trap for TERM that starts processes of the shell",
    """scancel, requeue and the time limit send TERM to all processes of the batch step, also to the `$(...)` and the
    pipes of a running trap: bash then aborts in the middle of the trap (measured: "unexpected EOF ... Aborting").""",
    "Let the trap do one assignment (`trap 'terminated=yes' TERM`), and act on it after `wait`.",
)
def trap_substitutes(script: BatchScript) -> Hits:
    for trap in traps(script):
        if "TERM" not in trap.signals:
            continue
        for command in done_by(trap, script):
            if command.then in ("|", "|&") or any(word.substitutions for word in command.all_words):
                yield (
                    trap.command.line,
                    f"the trap for TERM runs {command.text[:50] or 'a substitution'!r} (line {command.line})",
                )
                break


@rule(
    "wait-ends-early",
    GROUP,
    "warning",
    "one wait, which a signal ends",
    """A signal with a trap ends `wait` at once, while the ranks are still saving. The script then goes on or ends, and
    Slurm kills the ranks at the end of the script.""",
    'Wait again: `while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done`.',
)
def wait_ends_early(script: BatchScript) -> Hits:
    caught = traps(script)
    in_background = [each for each in script.trainings or script.steps if each.command.outermost.then == "&"]
    waits = [command for command in script.commands if command.name == "wait"]
    handled = [command for trap in caught for command in done_by(trap, script)]
    ends_in_trap = any(command.name in ("wait", "exit", "sleep") for command in handled)
    if caught and in_background and len(waits) == 1 and not waits[0].loop and not ends_in_trap:
        yield waits[0].line, f"a signal ends this wait (trap in line {caught[0].command.line})"


@rule(
    "background-without-wait",
    GROUP,
    "error",
    "a program in the background, and no wait",
    """When the script ends, Slurm kills all that it has started, also what `nohup` or `disown` protects from a closed
    terminal. The job is COMPLETED at once.""",
    "End the script with `wait`, or start the program without `&`.",
)
def background_without_wait(script: BatchScript) -> Hits:
    waiting = {command.function for command in script.commands if command.name == "wait" and command.function}
    running = {id(launch.command) for launch in script.launches if launch.is_training or "srun" in launch.through}
    holding = [each.line for each in script.commands if _holds(each, running) or each.name in waiting]
    for each in {id(launch.command): launch for launch in (*script.trainings, *script.steps)}.values():
        command = each.command.outermost
        if command.then == "&" and not command.function and command.line > max(holding, default=0):
            yield command.line, f"{command.text[:50]!r} runs in the background until the script ends"


def _holds(command: Command, running: set[int]) -> bool:
    """Return whether a command keeps the script alive: a wait, a loop that looks, a program in the foreground."""
    in_loop = command.loop and command.name in ("kill", "sleep", "ps", "pgrep", "jobs")
    return (
        in_loop or command.name in ("wait", "fg", "tail") or (command.outermost.then != "&" and id(command) in running)
    )
