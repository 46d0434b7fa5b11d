"""Ranks: cores, exit, numbers, and steps side by side."""

from __future__ import annotations

import re

from hpctrain.lint.rule import Hits, rule
from hpctrain.lint.script import SAME_IN_ALL_TASKS, BatchScript
from hpctrain.lint.shell import Command

GROUP = "Ranks and steps"


@rule(
    "srun-cpus-per-task",
    GROUP,
    "warning",
    "srun without --cpus-per-task",
    """Since Slurm 22.05 srun no longer takes --cpus-per-task from sbatch: where tasks are bound to cores, every rank
    gets one core, and its threads and loader workers share it.""",
    """Write `srun --cpus-per-task="$SLURM_CPUS_PER_TASK" ...`, or `export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"`
    before the first srun.""",
)
def srun_cpus_per_task(script: BatchScript) -> Hits:
    option = script.option("cpus-per-task")
    if not option or option.value == "1" or _exports(script, "SRUN_CPUS_PER_TASK"):
        return
    for step in script.steps:
        if "cpus-per-task" not in step.srun and "SRUN_CPUS_PER_TASK" not in step.command.assignments:
            yield step.command.line, f"srun does not take over {option.raw} of line {option.line}"


def _exports(script: BatchScript, name: str) -> bool:
    return name in script.assigned


@rule(
    "no-kill-on-bad-exit",
    GROUP,
    "warning",
    "ranks that outlive a dead one",
    """If a rank dies, srun leaves the others running by default. They wait for it in a collective until a timeout or
    the time limit, and the allocation is paid for (measured: 10 s and more, against 0.3 s with the option).""",
    "Write `srun --kill-on-bad-exit=1 ...` (`-K1`).",
)
def no_kill_on_bad_exit(script: BatchScript) -> Hits:
    for step in script.steps:
        tasks = step.srun.get("ntasks", "") or step.srun.get("ntasks-per-node", "")
        several = int(tasks) > 1 if tasks.isdecimal() else not tasks and (script.tasks or 1) > 1
        starts = step.is_training or any(each.command.inside is step.command for each in script.trainings)
        if several and starts and "kill-on-bad-exit" not in step.srun and "SLURM_KILL_BAD_EXIT" not in script.assigned:
            yield step.command.line, "srun of several ranks without --kill-on-bad-exit"


@rule(
    "rank-read-too-early",
    GROUP,
    "error",
    "the rank of the batch shell, given to all ranks",
    """$SLURM_PROCID, $SLURM_LOCALID and $SLURM_NODEID differ between the ranks, but the batch shell puts its own value
    in (0, measured) before srun starts anything: every rank gets 0.""",
    """Let each rank read it: in Python (`os.environ["SLURM_PROCID"]`), or in single quotes, `srun bash -c 'python
    train.py --rank $SLURM_PROCID'`.""",
)
def rank_read_too_early(script: BatchScript) -> Hits:
    if not script.header.options or script.tasks == 1:
        return
    for command in script.commands:
        if command.name in ("echo", "printf", "[", "[[", "test", "case") or command.condition:
            continue
        if command.inside is not None and _is_in_step(command):
            continue
        for word in command.all_words:
            early = sorted(word.variables & set(SAME_IN_ALL_TASKS))
            if early:
                yield command.line, f"the batch shell expands ${early[0]}"
                break


def _is_in_step(command: Command) -> bool:
    """Return whether a command is in text that the ranks read (in ``bash -c '...'``)."""
    outer = command.inside
    if outer is None or not command.words:
        return False
    # A script in single quotes, or with \\$, is expanded by the shell that srun starts.
    late = [word for word in outer.words if not word.variables & set(SAME_IN_ALL_TASKS)]
    return any(command.words[0].raw in word.value for word in late)


@rule(
    "parallel-steps",
    GROUP,
    "warning",
    "steps side by side that wait for each other",
    """Each srun takes all cores and memory of the job unless it says otherwise, so the second step waits for the end
    of the first: "step creation temporarily disabled, retrying (Requested nodes are busy)" (measured).""",
    "Give each step its share: `srun --exact --ntasks=1 --cpus-per-task=4 --mem=8G ... &`.",
)
def parallel_steps(script: BatchScript) -> Hits:
    shares = {"exact", "exclusive", "overlap", "mem", "nodelist", "relative", "nodes", "mem-per-cpu"}
    steps = [step for step in script.launches if step.command.name == "srun" and step.command.then == "&"]
    steps = [step for step in steps if not shares & step.srun.keys()]
    if len(steps) > 1 or any(step.command.loop for step in steps):
        yield steps[0].command.line, "srun in the background, with all cores and memory of the job"


@rule(
    "one-node-of-several",
    GROUP,
    "error",
    "several nodes, and a program that runs on one",
    """The batch script runs on the first node only. Without srun (or mpirun) the other nodes idle; a torchrun that
    waits for their ranks waits until its timeout.""",
    """Start one launcher per node: `srun --ntasks-per-node=1 torchrun ...`, or one task per GPU with `srun python
    ...`.""",
)
def one_node_of_several(script: BatchScript) -> Hits:
    if (script.nodes or 1) < 2 or not script.trainings:
        return
    starters = r"\b(srun|mpirun|mpiexec|prun|ibrun|pdsh|ssh|parallel|deepspeed|horovodrun|ray|dask|clush)\b"
    if not any(re.search(starters, command.text) for command in script.commands):
        first = script.trainings[0].command
        yield first.line, f"{script.nodes} nodes, but {first.name} starts on the first only"


@rule(
    "launcher-per-task",
    GROUP,
    "error",
    "one torchrun per GPU instead of one per node",
    """torchrun and accelerate start one process per GPU themselves. Started by srun with several tasks per node, each
    of them does: 4 tasks with 4 processes each are 16 on 4 GPUs, and they fight for the port.""",
    """Use `--ntasks-per-node=1` (and `--cpus-per-task` for all processes of the node), or start Python without
    torchrun.""",
)
def launcher_per_task(script: BatchScript) -> Hits:
    for each in script.trainings:
        words = script.resolved(" ".join(word.value for word in each.program))
        count = re.search(r"--(?:nproc[_-]per[_-]node|num_processes)[= ](\S+)", words)
        own_count = {"ntasks", "ntasks-per-node"} & each.srun.keys()
        is_launcher = re.search(r"(^|/)torchrun |torch\.distributed\.(run|launch)", words)
        several = (script.tasks_per_node or 1) > 1 and "srun" in each.through and not own_count
        if several and is_launcher and count and count[1] != "1":
            what = f"srun starts {script.tasks_per_node} of them per node, each with {count[1]} processes"
            yield each.command.line, what
