"""What the job asks for: nodes, tasks, cores, GPUs, memory, arrays."""

from __future__ import annotations

import re

from hpctrain.lint.launches import Launch
from hpctrain.lint.rule import Hits, rule
from hpctrain.lint.script import BatchScript

GROUP = "What the job asks for"
_WORKERS = re.compile(r"--?(?:[\w.]*[._-])?(?:num|n|dataloader|data|loader)?[._-]?(?:workers|num_workers)(?:[= ])(\S+)")


@rule(
    "memory-options-exclude",
    GROUP,
    "error",
    "two options that exclude each other",
    """--mem, --mem-per-cpu and --mem-per-gpu are mutually exclusive: Slurm 22.05 refuses the script (measured). So are
    --cpus-per-task and --cpus-per-gpu.""",
    "Keep one of them.",
)
def memory_options_exclude(script: BatchScript) -> Hits:
    for names in (("mem", "mem-per-cpu", "mem-per-gpu"), ("cpus-per-task", "cpus-per-gpu")):
        given = [option for name in names if (option := script.option(name))]
        if len(given) > 1:
            last = max(given, key=lambda option: option.line)
            yield last.line, " and ".join(f"{option.raw} (line {option.line})" for option in given)


@rule(
    "exclusive-memory",
    GROUP,
    "warning",
    "a whole node, but not its memory",
    """--exclusive gives all cores of the node, but only the memory that is asked for; without --mem that is the
    default of the partition, often a few GB per core. The job dies out of memory on a half-empty node.""",
    "Add `#SBATCH --mem=0`, which asks for all memory of each node.",
)
def exclusive_memory(script: BatchScript) -> Hits:
    option = script.option("exclusive")
    if option and not any(script.option(name) for name in ("mem", "mem-per-cpu", "mem-per-gpu")):
        yield option.line, "--exclusive without --mem"


@rule(
    "all-memory",
    GROUP,
    "note",
    "all memory of a node that may be shared",
    """--mem=0 asks for all memory of each node. Without --exclusive the job waits until no other job uses any memory
    there, and then keeps others from the GPUs and cores that it leaves free.""",
    "Ask for the memory that the job needs (`seff JOB` shows it), or add `--exclusive` if the whole node is meant.",
)
def all_memory(script: BatchScript) -> Hits:
    option = script.option("mem")
    if option and re.fullmatch(r"0+[KMGT]?B?", option.value or "", re.IGNORECASE) and not script.option("exclusive"):
        yield option.line, f"{option.raw} without --exclusive"


@rule(
    "tasks-disagree",
    GROUP,
    "warning",
    "numbers of tasks that contradict each other",
    """If --ntasks is given, --ntasks-per-node is only an upper limit. Slurm starts --ntasks tasks, however many nodes
    times tasks there could be.""",
    "Give --nodes and --ntasks-per-node, and leave --ntasks out.",
)
def tasks_disagree(script: BatchScript) -> Hits:
    nodes, tasks, each = (script.number(name) for name in ("nodes", "ntasks", "ntasks-per-node"))
    option = script.option("ntasks")
    if option and nodes and tasks and each and tasks != nodes * each and "-" not in (script.value("nodes") or ""):
        yield option.line, f"{tasks} tasks, but {nodes} nodes x {each} tasks per node = {nodes * each}"


@rule(
    "tasks-without-srun",
    GROUP,
    "warning",
    "several tasks, and nothing that starts them",
    """The batch script runs once, on the first node. Only srun (or mpirun) starts one process per task. Tasks are also
    not the way to get cores for threads or workers of a loader: Slurm may spread them over nodes.""",
    "Start the program with `srun`. For one process with many cores ask for `--ntasks=1 --cpus-per-task=N`.",
)
def tasks_without_srun(script: BatchScript) -> Hits:
    tasks = script.tasks
    option = script.option("ntasks") or script.option("ntasks-per-node")
    if not option or not tasks or tasks < 2 or not script.trainings:
        return
    starters = r"\b(srun|mpirun|mpiexec|prun|ibrun|parallel|pdsh|ssh|deepspeed|dask|ray|horovodrun|launcher|xargs)\b"
    if any(re.search(starters, command.text) for command in script.commands):
        return
    nodes, gpus = script.nodes or 1, script.gpus_per_node or 0
    torchrun = any(each.program[0].value.endswith(("torchrun", "accelerate")) for each in script.trainings)
    if nodes == 1 and torchrun and script.tasks_per_node == gpus:
        return
    yield option.line, f"{tasks} tasks, but no srun: one process runs"


@rule(
    "workers-exceed-cores",
    GROUP,
    "warning",
    "more workers than cores",
    """Workers of a data loader beyond the cores of their rank take turns on them; Slurm confines them to the job's
    cores. The number counts for every rank: 4 ranks with 8 workers each are 36 processes.""",
    """Ask for one core per worker and one for the rank: `--cpus-per-task=9` for 8 workers; or pass `--num_workers
    $((SLURM_CPUS_PER_TASK - 1))`.""",
)
def workers_exceed_cores(script: BatchScript) -> Hits:
    cores, tasks = script.cores_per_task, script.tasks_per_node
    if script.option("exclusive") or script.option("ntasks-per-core") or cores is None:
        return
    for launch in script.trainings:
        found = _WORKERS.search(script.resolved(" ".join(word.value for word in launch.program)))
        if not found or not found[1].isdecimal() or tasks is None:
            continue
        of_step = launch.srun.get("cpus-per-task", "")
        available = (int(of_step) if of_step.isdecimal() else cores) * (1 if "srun" in launch.through else tasks)
        if int(found[1]) > available:
            yield launch.command.line, f"{found[0]} on {available} core{'s' * (available > 1)}"


@rule(
    "gpus-per-task",
    GROUP,
    "warning",
    "GPUs that are hidden from the other ranks of the node",
    """--gpus-per-task (and --gpu-bind=single) shows each rank one GPU (measured: one each), so that every rank sees it
    as device 0. NCCL then cannot use direct copies between GPUs of the node in many set-ups, and code that takes
    cuda:LOCAL_RANK fails with "invalid device ordinal".""",
    """Ask for `--gpus-per-node=N --ntasks-per-node=N`: all ranks see all GPUs, and each takes the one of its local
    rank. Or add `--gpu-bind=none`.""",
)
def gpus_per_task(script: BatchScript) -> Hits:
    if script.value("gpu-bind") == "none" or (script.tasks_per_node or script.tasks or 2) < 2:
        return
    for name in ("gpus-per-task", "gpu-bind"):
        option = script.option(name)
        if option and (name == "gpus-per-task" or (option.value or "").startswith(("single", "per_task"))):
            yield option.line, f"{option.raw} with {script.tasks or 'several'} tasks"
    for step in script.steps:
        bind = step.srun.get("gpu-bind", "")
        if bind != "none" and ("gpus-per-task" in step.srun or bind.startswith(("single", "per_task"))):
            yield step.command.line, "srun shows each task its own GPU only"


@rule(
    "array-too-large",
    GROUP,
    "warning",
    "indices beyond the usual limit of arrays",
    """MaxArraySize is 1001 unless the site changed it, so 1000 is the largest index: sbatch refuses a larger one with
    "Invalid job array specification" (measured). The limit holds for the index, not for the number of tasks.""",
    """Look at `scontrol show config | grep MaxArraySize`. Let each task do several pieces of work, or add an offset:
    `sbatch --export=ALL,OFFSET=1000 --array=0-999 FILE`.""",
)
def array_too_large(script: BatchScript) -> Hits:
    option = script.option("array")
    if option:
        largest = max(map(int, re.findall(r"\d+", (option.value or "").partition("%")[0].partition(":")[0])), default=0)
        if largest > 1000:
            yield option.line, f"{option.raw} has the index {largest}"


@rule(
    "gpu-ranks-disagree",
    GROUP,
    "warning",
    "another number of ranks than GPUs on a node",
    """srun starts one process per task. With fewer tasks than GPUs some GPUs stay idle unless each process drives
    several; with more, ranks share a GPU and its memory, and NCCL refuses two ranks on one GPU.""",
    "Let `--ntasks-per-node` be the number of GPUs of a node; or start one `torchrun --nproc_per_node=N` per node.",
)
def gpu_ranks_disagree(script: BatchScript) -> Hits:
    gpus, tasks = script.gpus_per_node, script.tasks_per_node
    option = script.option("ntasks-per-node") or script.option("ntasks")
    if not gpus or not tasks or not option:
        return
    direct = [each for each in script.trainings if each.through == ("srun",) and not _starts_several(each)]
    plain = [each for each in direct if not {"ntasks", "ntasks-per-node", "nodes"} & each.srun.keys()]
    if plain and (tasks > gpus or (1 < tasks < gpus)):
        yield (
            option.line,
            f"{tasks} tasks and {gpus} GPU{'s' * (gpus > 1)} per node (srun in line {plain[0].command.line})",
        )


def _starts_several(launch: Launch) -> bool:
    """Return whether a launcher starts one process per GPU by itself."""
    words = " ".join(word.value for word in launch.program[:3])
    return re.search(r"(^|/)(torchrun|accelerate|deepspeed|lightning) |torch\.distributed", words + " ") is not None
