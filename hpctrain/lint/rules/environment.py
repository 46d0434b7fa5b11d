"""The environment of the job: conda, modules, threads, GPUs, what sbatch passes on."""

from __future__ import annotations

import re

from hpctrain.lint.rule import Hits, rule
from hpctrain.lint.rules.network import settings
from hpctrain.lint.script import BatchScript

GROUP = "The environment"
_HOOK = re.compile(
    r"(conda|mamba)\.sh|shell\.\w+\s+hook|shell[ -]hook|__conda_setup|load.*(conda|mamba|forge)|/bin/activate"
    r"|conda_init|profile\.d",
    re.IGNORECASE,
)


@rule(
    "conda-activate",
    GROUP,
    "warning",
    "conda activate without conda's shell function",
    """`conda activate` is a function of the shell, which `conda init` writes into ~/.bashrc; a batch script does not
    read that file. It works from one terminal and not from another: "Your shell has not been properly configured to
    use 'conda activate'".""",
    """Before it: `source "$HOME/miniforge3/etc/profile.d/conda.sh"`, or `eval "$(conda shell.bash hook)"`; or call the
    Python of the environment by its path.""",
)
def conda_activate(script: BatchScript) -> Hits:
    is_login = re.search(r"\s-\w*[li]|--login", script.lines[0]) is not None
    ready = is_login
    for command in script.commands:
        if command.name in ("source", ".", "eval", "module", "ml") and (
            _HOOK.search(command.text) or (command.name in ("source", ".") and "activate" not in command.text)
        ):
            ready = True
        if command.name in ("conda", "mamba", "micromamba") and command.values[1:2] == ["activate"] and not ready:
            yield command.line, f"{command.text[:50]!r} without conda.sh"
            return


@rule(
    "bashrc-in-batch",
    GROUP,
    "note",
    "~/.bashrc read by a batch script",
    """On Debian and Ubuntu ~/.bashrc returns at once in a shell that is not interactive, so nothing below that line
    happens. Where it does not, the job depends on a file that is not part of the experiment.""",
    "Name what the job needs: the modules, and conda's own `etc/profile.d/conda.sh`.",
)
def bashrc_in_batch(script: BatchScript) -> Hits:
    for command in script.commands:
        if command.name in ("source", ".") and re.search(
            r"(~|HOME\}?|/home/\w+)/\.bash(rc|_profile)$", command.text.strip('"')
        ):
            yield command.line, command.text


@rule(
    "module-without-purge",
    GROUP,
    "note",
    "modules on top of those of the terminal",
    """sbatch passes the environment of the terminal on, with the modules that were loaded there. The same script then
    runs with other libraries on another day.""",
    "`module purge` before the first `module load`.",
)
def module_without_purge(script: BatchScript) -> Hits:
    if script.value("export") == "NONE":
        return
    for command in script.commands:
        words = command.values
        if command.name in ("module", "ml"):
            if re.search(r"\b(purge|reset|restore)\b", command.text):
                return
            if words[1:2] in (["load"], ["add"]) or command.name == "ml":
                yield command.line, f"{command.text[:50]!r} without module purge"
                return


@rule(
    "export-drops-environment",
    GROUP,
    "warning",
    "an environment that srun's tasks do not get",
    """With --export=NONE or a list without ALL the tasks of srun get neither PATH nor what the script exports:
    "execve(): bash: No such file or directory" (measured for both).""",
    """Write `--export=ALL,NAME=value`; or keep NONE and write `srun --export=ALL ...`, or `unset SLURM_EXPORT_ENV`
    before srun.""",
)
def export_drops_environment(script: BatchScript) -> Hits:
    option = script.option("export")
    if not option or not option.value or re.search(r"(^|,)ALL(,|$)", option.value) or option.value.upper() == "NIL":
        return
    restored = any(command.name == "unset" and "SLURM_EXPORT_ENV" in command.text for command in script.commands)
    restored = restored or "SLURM_EXPORT_ENV" in script.assigned
    steps = [step for step in script.steps if "export" not in step.srun]
    if steps and not restored:
        yield option.line, f"{option.raw}, and srun in line {steps[0].command.line}"


@rule(
    "omp-threads",
    GROUP,
    "note",
    "several ranks on a node, and OMP_NUM_THREADS unset",
    """NumPy and PyTorch start one thread per core that they see. If tasks are not bound to cores, every rank starts as
    many threads as the job has cores, and they displace each other.""",
    '`export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"`.',
)
def omp_threads(script: BatchScript) -> Hits:
    option = script.option("ntasks-per-node") or script.option("ntasks")
    ranks = [
        each
        for each in script.trainings
        if each.through[:1] in (("srun",), ("mpirun",)) and not each.program[0].value.endswith("torchrun")
    ]
    if option and (script.tasks_per_node or 1) > 1 and ranks and "OMP_NUM_THREADS" not in script.assigned:
        yield ranks[0].command.line, f"{script.tasks_per_node} ranks per node without OMP_NUM_THREADS"


@rule(
    "cuda-visible-devices",
    GROUP,
    "warning",
    "GPUs chosen by hand",
    """Slurm sets CUDA_VISIBLE_DEVICES to the GPUs of the job. Other numbers name GPUs that the job does not have (no
    device is found), or, where the site does not confine jobs, those of somebody else.""",
    "Remove the line, and ask for as many GPUs as are used; for one process per GPU use the local rank.",
)
def cuda_visible_devices(script: BatchScript) -> Hits:
    if not script.header.options:
        return
    for line, name, word in settings(script, r"(CUDA|HIP|ROCR)_VISIBLE_DEVICES"):
        if re.fullmatch(r"\d+(,\d+)*,?", word.value) and not any(
            each.command.line == line and "srun" in each.through for each in script.launches
        ):
            yield line, f"{name}={word.value}"


@rule(
    "script-folder",
    GROUP,
    "error",
    "the folder of the script, which is Slurm's copy",
    """Slurm runs a copy: $0 and ${BASH_SOURCE[0]} are .../spool/job00001/slurm_script (measured), so files beside your
    script are not there.""",
    "Use `$SLURM_SUBMIT_DIR`, the folder where sbatch was called, or a fixed path.",
)
def script_folder(script: BatchScript) -> Hits:
    knows = re.search(r"SLURM_SUBMIT_DIR|scontrol show job|SLURM_JOB_ID:-|-n \"?\$\{?SLURM_JOB", script.text)
    if not script.header.options or knows:
        return
    for command in script.commands:
        if re.search(r"\$\{?(0|BASH_SOURCE)\b", command.text) and command.name in ("dirname", "readlink", "realpath"):
            yield command.line, f"{command.text[:50]!r}"
            return


@rule(
    "buffered-output",
    GROUP,
    "note",
    "Python keeps its last lines",
    """Into a file Python writes blocks of 8 kB: `tail -f` shows nothing for minutes, and the lines before a KILL are
    lost. srun --unbuffered does not change that.""",
    "`python -u ...`, or `export PYTHONUNBUFFERED=1`.",
)
def buffered_output(script: BatchScript) -> Hits:
    if "PYTHONUNBUFFERED" in script.assigned or re.search(r"PYTHONUNBUFFERED", script.text):
        return
    for each in script.trainings:
        values = [word.value for word in each.program]
        is_python = re.fullmatch(r"python[\d.]*", values[0].rpartition("/")[2])
        if (
            is_python
            and "-u" not in values[:4]
            and "stdbuf" not in each.command.text
            and not re.search(r"-[a-zA-Z]*u", " ".join(values[1:2]))
        ):
            yield each.command.line, "python without -u"
            return
