"""Turn a JobPlan into a batch script and submit it, with submitit.

submitit renders the ``#SBATCH`` lines, calls sbatch and reads the job id. It does not run the job, because its own job
loses work in a pre-emption: it pickles a callable, ignores TERM, saves on one rank inside a signal handler and requeues
from there (docs/cluster.md). Our job runs :func:`attempt_script` and, on every rank, the plain trainer.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from submitit.core.utils import CommandFunction, FailedJobError, FailedSubmissionError
from submitit.slurm.slurm import SlurmExecutor, _get_default_parameters

from hpctrain.errors import SiteError
from hpctrain.launch.environment import clean_environment
from hpctrain.launch.plan import ARRAY_TASK, JobPlan, Options
from hpctrain.launch.targets.slurm_ray import command_of_tasks, for_sbatch, script_lines


class TrainerExecutor(SlurmExecutor):
    """submitit's executor for a job whose script, after the ``#SBATCH`` lines, is ours."""

    @classmethod
    def affinity(cls) -> int:
        """Return 2, so that submitit accepts any host: rendering needs no srun, and ``--dry-run`` works on a laptop."""
        return 2

    @classmethod
    def for_plan(cls, plan: JobPlan) -> TrainerExecutor:
        """Return an executor that renders `plan`."""
        executor = cls(folder=Path(plan.run_dir) / "logs")
        known = set(_get_default_parameters())
        options = sbatch_options(plan)
        given = {"time": options["time"], "nodes": options["nodes"], "job_name": plan.name}
        others = {name: value for name, value in options.items() if name.replace("-", "_") not in given}
        assert not known & {"output", "open_mode"}, "submitit has learned options that we pass as additional ones"
        executor.parameters = {
            **given,
            "wckey": None,  # submitit's default; clusters that track keys refuse an unknown one
            "use_srun": False,  # the srun line is part of the attempt script
            "stderr_to_stdout": True,
            "setup": setup_script(plan),
            "additional_parameters": others,
            "map_count": len(plan.tasks) or None,
            "array_parallelism": min(plan.at_once or len(plan.tasks), len(plan.tasks)) or 1,
        }
        return executor

    def render(self) -> str:
        """Return the whole batch script."""
        return self._make_submission_file_text(attempt_script(), uid="")

    @staticmethod
    def with_tasks(script: str, tasks: Sequence[int]) -> str:
        """Return a script whose array has just these tasks; submitit numbers them from 0."""
        return re.sub(r"(?m)^#SBATCH --array=[^%\n]*", f"#SBATCH --array={ranges(tasks)}", script, count=1)

    def submit_script(self, script: Path, environment: Mapping[str, str]) -> str:
        """Submit a rendered script and return the job id; submitit runs sbatch and reads its answer."""
        command = self._make_submission_command(script)
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints the message that it also raises
            answer = CommandFunction(command, verbose=False, env=dict(environment))()
        return self._get_job_id_from_submission_command(answer.splitlines()[-1] if answer else "")


def render(plan: JobPlan) -> str:
    """Return the batch script of `plan`.

    Returns
    -------
    str
        The text of ``job.sh``.
    """
    script = TrainerExecutor.for_plan(plan).render()
    return TrainerExecutor.with_tasks(script, plan.tasks) if plan.tasks else script


def ranges(numbers: Sequence[int]) -> str:
    """Return whole numbers as Slurm writes them, such as ``0-3,7``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def attempt_script() -> str:
    """Return the shell text that runs one attempt and decides what follows; every job script ends with it."""
    return resources.files("hpctrain.launch").joinpath("attempt.sh").read_text(encoding="utf-8")


def setup_script(plan: JobPlan) -> list[str]:
    """Return the shell lines that come before :func:`attempt_script` in the job script of `plan`."""
    run_dir = shlex.quote(plan.run_dir)
    if plan.tasks:
        run_dir = shlex.quote(plan.run_dir.removesuffix(ARRAY_TASK)) + '"$SLURM_ARRAY_TASK_ID"'
    return [
        *plan.setup,
        f"run_dir={run_dir}",
        f"trainer=({shlex.join(command_of_tasks(plan))})",
        *script_lines(plan),
        f"requeue={'yes' if plan.requeue else 'no'}",
        f"max_attempts={plan.max_attempts}",
        f"max_attempts_without_progress={plan.max_attempts_without_progress}",
        f"longest_slice={_hours(plan.time_limit_s) if 'time-min' in plan.options else ''}",
        # These also if they are empty: the environment may hold variables of these names.
        f"prepare=({shlex.join(plan.prepare)})",
        f"beside=({shlex.join(plan.beside)})",
    ]


def sbatch_options(plan: JobPlan) -> Options:
    """Return all options of sbatch for a job, by their long names; True is a flag without a value."""
    shape = plan.resources
    # Slurm replaces %j, %a ... in the names of log files, so a percent sign of the path itself must be doubled.
    folder = plan.run_dir.removesuffix(ARRAY_TASK)
    is_array = folder != plan.run_dir
    logs = folder.replace("%", "%%") + (ARRAY_TASK if is_array else "") + "/logs"
    options: Options = {
        "job-name": plan.name,
        "nodes": shape.nodes,
        "ntasks-per-node": shape.ranks_per_node,
        "cpus-per-task": shape.cpus_per_rank,
        "time": _hours(plan.time_limit_s),
        "signal": f"USR2@{plan.lead_s}",
        "requeue" if plan.requeue else "no-requeue": True,
        "open-mode": "append",  # the default truncates the log of every earlier attempt
        "output": f"{logs}/job-{'%A_%a' if is_array else '%j'}-batch.log",
    }
    if shape.memory_gib_per_node is not None:
        options["mem"] = f"{round(shape.memory_gib_per_node * 1024)}M"
    if plan.after:
        options["dependency"] = ":".join(["afterok", *(job.id for job in plan.after)])
        # Without this, a job whose predecessor has failed would wait in the queue for ever.
        options["kill-on-invalid-dep"] = plan.options.get("kill-on-invalid-dep", "yes")
    return for_sbatch(plan, options)


def submit(plan: JobPlan, script: Path) -> str:
    """Submit the rendered script of `plan`.

    Parameters
    ----------
    plan : JobPlan
    script : Path
        File that contains the rendered script of the plan.

    Returns
    -------
    str
        Job id; an array's tasks are ``<job id>_0``, ``<job id>_1`` ...

    Raises
    ------
    SiteError
        There is no sbatch, or it refuses the job; the message quotes it.
    """
    _need_sbatch()
    try:
        return TrainerExecutor.for_plan(plan).submit_script(script, clean_environment())
    except FailedJobError as error:
        raise SiteError(explain_refusal(str(error), plan)) from error
    except FailedSubmissionError as error:
        raise SiteError(f"the answer of sbatch is not a job id: {error}") from error


def test_only(plan: JobPlan, script_text: str) -> str:
    """Ask the cluster whether it would take the job, without submitting it.

    Returns
    -------
    str
        The answer of ``sbatch --test-only``, such as when the job would start.

    Raises
    ------
    SiteError
        The cluster would refuse the job, or does not answer.
    """
    _need_sbatch()
    command = ["sbatch", "--test-only"]
    environment = clean_environment()
    done = subprocess.run(command, input=script_text, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SiteError(explain_refusal(done.stderr.strip(), plan))
    return done.stderr.strip().removeprefix("sbatch: ")


test_only.__test__ = False  # type: ignore[attr-defined]  # pytest would collect the name


_ADVICE = (
    ("invalid partition", "there is no such partition (launch.partition); `sinfo -s` lists them"),
    ("invalid account", "no such account, or you may not charge it (launch.account)"),
    ("invalid qos", "no such quality of service, or you may not use it (launch.qos)"),
    ("invalid feature", "no node has this feature (launch.constraint); `sinfo -o '%N %f'` lists them"),
    ("time limit", "lower launch.time_limit: the job requeues itself and continues where it stopped"),
    ("more processors", "ask for fewer ranks_per_node x cpus_per_rank; `sinfo -o '%P %c'` shows the cores of a node"),
    (
        "job array specification",
        "the cluster allows fewer tasks in an array (`scontrol show config | grep MaxArraySize`); submit fewer now and "
        "the others later",
    ),
    (
        "job dependency problem",
        "Slurm does not know a job of --after, or has forgotten it; name its run directory instead, or omit a job that "
        "has finished",
    ),
    ("memory", "lower launch.memory_gib_per_node; `sinfo -o '%P %m'` shows the memory of a node [MB]"),
    (
        "node configuration is not available",
        "no node has so many GPUs or cores or memory; `sinfo -o '%P %c %m %G'`",
    ),
    (
        "unable to contact",
        "the Slurm controller does not answer; try again, ask the admins, or train on this machine: --cluster local",
    ),
    (
        "configuration source",
        "this host has sbatch but belongs to no cluster (SLURM_CONF); to train on this machine: --cluster local",
    ),
)


def explain_refusal(words: str, plan: JobPlan) -> str:
    """Return the error output of sbatch, followed by the key of the profile to change.

    Parameters
    ----------
    words : str
        Error output of sbatch.
    plan : JobPlan
        The job that was submitted.
    """
    options = sbatch_options(plan)
    asked = ", ".join(f"{name}={options[name]}" for name in ("partition", "nodes", "time") if name in options)
    lines = [f"sbatch refuses job '{plan.name}' ({asked}):"]
    lines += [f"  {line}" for line in words.splitlines() if line.strip()]
    advice = [text for key, text in _ADVICE if key in words.lower()]
    return "\n".join([*lines, *(f"  -> {text}" for text in advice[:1])])


def _hours(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


def _need_sbatch() -> None:
    if shutil.which("sbatch") is None:
        raise SiteError("there is no sbatch on this host; call from a login node, or use --cluster local")
