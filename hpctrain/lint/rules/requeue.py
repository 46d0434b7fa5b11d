"""Requeues: whether the next attempt comes, keeps its log, and ends some time."""

from __future__ import annotations

import re

from hpctrain.lint.rule import Hits, rule
from hpctrain.lint.script import BatchScript
from hpctrain.lint.shell import Command

GROUP = "Requeue"
_BOUND = re.compile(r"SLURM_RESTART_COUNT|restart|attempt|tries|retr|max_|counter|count", re.IGNORECASE)


def requeues(script: BatchScript) -> list[Command]:
    """Return the commands ``scontrol requeue ...``."""
    return [each for each in script.commands if re.search(r"\bscontrol\s+requeue", each.text) and each.name != "echo"]


@rule(
    "no-requeue",
    GROUP,
    "note",
    "no --requeue in a script that saves at a warning",
    """Whether Slurm requeues a job after a pre-emption or a lost node is a setting of the site (JobRequeue). On a site
    with JobRequeue=0, or after --no-requeue, `scontrol requeue` is refused as well.""",
    "Add `#SBATCH --requeue` and `#SBATCH --open-mode=append`; or `--no-requeue` if a second attempt must not start.",
)
def no_requeue(script: BatchScript) -> Hits:
    option = script.option("signal")
    if option and not script.option("requeue") and not script.option("no-requeue"):
        yield option.line, f"{option.raw} without --requeue"


@rule(
    "requeue-truncates-log",
    GROUP,
    "warning",
    "a requeue that deletes the log",
    """A requeued job keeps its job id, and Slurm opens its log anew: what the earlier attempts wrote is gone
    (measured; JobFileAppend=0 is the default).""",
    "Add `#SBATCH --open-mode=append`; `hpctrain lint --fix` does it.",
)
def requeue_truncates_log(script: BatchScript) -> Hits:
    if (script.value("open-mode") or "").startswith("a") or script.value("output") in ("/dev/null", "none"):
        return
    option, commands = script.option("requeue"), requeues(script)
    if option or commands:
        yield option.line if option else commands[0].line, "a requeue without --open-mode=append"


@rule(
    "requeue-refused",
    GROUP,
    "error",
    "a requeue that Slurm refuses",
    """Slurm refuses `scontrol requeue` for a job with --no-requeue: "Requested operation is presently disabled"
    (measured).""",
    "Replace `--no-requeue` by `--requeue`.",
)
def requeue_refused(script: BatchScript) -> Hits:
    option = script.option("no-requeue")
    if option and requeues(script):
        yield requeues(script)[0].line, f"scontrol requeue, but {option.raw} in line {option.line}"


@rule(
    "requeue-for-ever",
    GROUP,
    "warning",
    "a requeue without a bound",
    """Slurm 22.05 has no limit on requeues by the user. A script that fails at once (a missing file, a full disk) is
    requeued until somebody notices.""",
    """Count: `if [ "${SLURM_RESTART_COUNT:-0}" -lt 20 ]; then scontrol requeue "$SLURM_JOB_ID"; fi`, and requeue only
    after the exit code that says that the state is saved.""",
)
def requeue_for_ever(script: BatchScript) -> Hits:
    found = requeues(script)
    if found and not any(_BOUND.search(" ".join(word.raw for word in each.all_words)) for each in script.commands):
        yield found[0].line, "scontrol requeue, and nothing counts the attempts"


@rule(
    "requeue-whole-array",
    GROUP,
    "warning",
    "a requeue of more than one task of an array",
    """The id of an array names all its tasks for scontrol, and so does $SLURM_JOB_ID in the array's last task, where
    both are the same number.""",
    'Requeue the task: `scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"`.',
)
def requeue_whole_array(script: BatchScript) -> Hits:
    if script.option("array"):
        for command in requeues(script):
            if "SLURM_ARRAY_TASK_ID" not in script.resolved(command.text):
                yield command.line, f"{command.text[:60]!r} in an array"


@rule(
    "resubmits-itself",
    GROUP,
    "warning",
    "a script that submits itself without a bound",
    """A chain of jobs that submit their successor never ends by itself: after a mistake that ends each job at once it
    fills the queue. `$0` is also Slurm's copy of the script, not your file.""",
    "Use `--requeue` and `scontrol requeue` with a bound, or submit the chain at once: `sbatch --array=1-10%1 FILE`.",
)
def resubmits_itself(script: BatchScript) -> Hits:
    own = script.path.name if script.path else None
    for command in script.commands:
        if command.name != "sbatch" or not script.header.options:
            continue
        names_itself = re.search(r"\$\{?(?:0|BASH_SOURCE)", command.text) or (own and own in " ".join(command.values))
        bounded = any(_BOUND.search(each.text) for each in script.commands if each is not command)
        if names_itself and not command.condition and not bounded:
            yield command.line, f"{command.text[:60]!r}"


@rule(
    "scancel-self",
    GROUP,
    "warning",
    "a job that cancels itself",
    """The job ends as CANCELLED, whatever it has done: jobs that depend on it with afterok never start, and TERM hits
    ranks that still write. With the id of an array all tasks are cancelled.""",
    "End the script with `exit 0`; to stop one step, `kill` its srun.",
)
def scancel_self(script: BatchScript) -> Hits:
    for command in script.commands:
        own = re.search(r"\$\{?SLURM_(?:JOB_?ID|ARRAY_JOB_ID)\b", command.text)
        signals = any(value.startswith(("-s", "--signal", "-b", "--batch", "-f", "--full")) for value in command.values)
        if command.name == "scancel" and own and not signals:
            yield command.line, f"{command.text[:60]!r}"


@rule(
    "dependency-waits",
    GROUP,
    "note",
    "a dependency that can wait for ever",
    """If the other job fails, a job with afterok stays in the queue for ever, with the reason DependencyNeverSatisfied
    (measured).""",
    "Add `#SBATCH --kill-on-invalid-dep=yes`.",
)
def dependency_waits(script: BatchScript) -> Hits:
    option = script.option("dependency")
    if option and "afterok" in (option.value or "") and not script.option("kill-on-invalid-dep"):
        yield option.line, option.raw
