"""Lightning and submitit, which requeue by themselves."""

from __future__ import annotations

import re

from hpctrain.lint.rule import Hits, rule
from hpctrain.lint.script import BatchScript
from hpctrain.lint.traps import warning_signal

GROUP = "Lightning and submitit"


def names_lightning(script: BatchScript) -> bool:
    """Return whether the script or its comments name Lightning or its Trainer."""
    return re.search(r"lightning|\bTrainer\(|\bpl_|--trainer\.", script.text, re.IGNORECASE) is not None


def names_submitit(script: BatchScript) -> bool:
    """Return whether submitit has written the script."""
    return "submitit.core._submit" in script.text


@rule(
    "lightning-signal",
    GROUP,
    "warning",
    "a signal that Lightning does not see",
    """Lightning requeues the job itself when its processes get USR1 (or what SLURMEnvironment(requeue_signal=...)
    says). `B:` sends it to the batch shell only, and another signal it ignores or dies of.""",
    """`#SBATCH --signal=SIGUSR1@90` and srun. With several ranks Lightning can hang when they get the signal some
    tenths of a second apart (measured: 2 of 5 runs): keep checkpoints by time as well.""",
)
def lightning_signal(script: BatchScript) -> Hits:
    warning, option = warning_signal(script), script.option("signal")
    if warning and option and names_lightning(script) and (warning[1] or warning[0] != "USR1"):
        passed_on = re.search(r"kill\b.*-|scancel\b.*--signal|requeue_signal", script.text)
        if not passed_on:
            yield option.line, f"{option.raw} with Lightning"


@rule(
    "lightning-tasks",
    GROUP,
    "error",
    "--ntasks with Lightning",
    """Lightning counts ranks by --ntasks-per-node and refuses --ntasks above 1: "You set `--ntasks=N` in your SLURM
    bash script, but this variable is not supported." """,
    "`#SBATCH --nodes=N --ntasks-per-node=GPUS`, equal to `Trainer(num_nodes=N, devices=GPUS)`.",
)
def lightning_tasks(script: BatchScript) -> Hits:
    option = script.option("ntasks")
    steps = any(each.through[:1] == ("srun",) for each in script.trainings)
    if (
        option
        and (script.number("ntasks") or 1) > 1
        and names_lightning(script)
        and not script.option("ntasks-per-node")
        and steps
    ):
        yield option.line, f"{option.raw} with Lightning"


@rule(
    "requeued-twice",
    GROUP,
    "warning",
    "two that requeue",
    """Lightning (at USR1) and submitit (at USR2) call `scontrol requeue` themselves. A script that does it too
    requeues the job twice: the second one hits the attempt that has just started.""",
    "Remove the one of the script, or switch Lightning's off: `SLURMEnvironment(auto_requeue=False)`.",
)
def requeued_twice(script: BatchScript) -> Hits:
    from hpctrain.lint.rules.requeue import requeues

    found = requeues(script)
    if found and (names_lightning(script) or names_submitit(script)) and "auto_requeue" not in script.text:
        yield found[0].line, f"{found[0].text[:60]!r} beside {'submitit' if names_submitit(script) else 'Lightning'}"


@rule(
    "submitit-short-job",
    GROUP,
    "warning",
    "a job of submitit of ten minutes or less",
    """submitit takes a signal in the last ten minutes, or the last fifth, of a job for its time limit: a short job
    that is pre-empted counts as timed out, and after max_num_timeout times is not requeued (measured). An unset
    time is 5 minutes.""",
    "Ask for more: `executor.update_parameters(slurm_time=60)`.",
)
def submitit_short_job(script: BatchScript) -> Hits:
    option, limit = script.option("time"), script.time_limit_min
    if option and limit is not None and limit <= 10 and names_submitit(script):
        yield option.line, f"{option.raw} is {limit:g} minutes"
