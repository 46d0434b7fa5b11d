"""Profile and site to batch script: what lands in it, and what never does."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.launch.environment import clean_environment
from hpctrain.launch.plan import ARRAY_TASK, Job, JobPlan
from hpctrain.launch.plan import plan_job as plan_for
from hpctrain.launch.targets import find_target
from hpctrain.launch.targets.slurm_script import attempt_script, explain_refusal, render
from hpctrain.profile.families import profile_class
from hpctrain.profile.sbatch_options import OURS_ALONE, OWN_KEYS, refusal
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.profile.site import Site

RUN_DIR = Path("/data/runs/quasars/20261121-143000-7f3a")


def profile(**launch) -> Profile:
    return profile_class()(name="quasars", launch=LaunchSection(**launch), data=SpectraSection(files=["a.h5"]))


def plan_job(profile: Profile, run_dir: Path, site: Site | None = None, **facts) -> JobPlan:
    return plan_for(profile, run_dir, find_target("slurm"), site, **facts)


def options(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return dict(line.partition("=")[::2] for line in lines)


def test_a_node_with_four_gpus_has_four_ranks_and_all_its_gpus():
    script = render(plan_job(profile(gpus_per_node=4, cpus_per_rank=8, time_limit="24:00:00"), RUN_DIR))
    assert options(script) == {
        "cpus-per-task": "8",
        "gpus-per-node": "4",
        "job-name": "quasars",
        "nodes": "1",
        "ntasks-per-node": "4",
        "open-mode": "append",
        "output": f"{RUN_DIR}/logs/job-%j-batch.log",
        "requeue": "",
        "signal": "USR2@180",
        "time": "24:00:00",
    }


def test_nothing_of_submitits_own_way_is_in_the_script():
    script = render(plan_job(profile(), RUN_DIR))
    assert "submitit.core" not in script
    assert "wckey" not in script
    assert ".pkl" not in script
    assert script.count("srun --") == 1
    assert script.rstrip().endswith(attempt_script().rstrip())


def test_a_cpu_job_asks_for_no_gpu():
    assert "gpu" not in " ".join(options(render(plan_job(profile(gpus_per_node=0, ranks_per_node=2), RUN_DIR))))


def test_what_the_profile_says_wins_over_the_site():
    site = Site(
        default_partition="gpu",
        gpu_option="gres",
        gpu_type="a100",
        modules=["cuda/12.4", "nccl"],
        environment={"NCCL_SOCKET_IFNAME": "ib0", "NOTE": "two words; $HOME"},
        setup=["ulimit -l unlimited"],
        container="apptainer exec --nv '/images/torch 2.sif'",
        sbatch={"gres-flags": "enforce-binding", "account": "site", "exclusive": True, "mail-type": "END"},
    )
    launch = {"gpus_per_node": 2, "account": "mine", "sbatch": {"mail-type": "FAIL"}, "memory_gib_per_node": 1.5}
    script = render(plan_job(profile(**launch), RUN_DIR, site))
    asked = options(script)
    assert asked["gres"] == "gpu:a100:2"
    assert (asked["partition"], asked["account"], asked["mail-type"]) == ("gpu", "mine", "FAIL")
    assert (asked["exclusive"], asked["mem"]) == ("", "1536M")
    lines = script.splitlines()
    assert lines.index("module load cuda/12.4 nccl") < lines.index("export NCCL_SOCKET_IFNAME=ib0")
    assert "export NOTE='two words; $HOME'" in lines
    assert "ulimit -l unlimited" in lines
    assert "trainer=(apptainer exec --nv '/images/torch 2.sif' python3 -u -m hpctrain.train)" in lines
    assert "prepare=()" in lines, "a variable of the environment with this name would run before the ranks"


def test_an_array_has_a_run_directory_per_task():
    run_dir = RUN_DIR.with_name(RUN_DIR.name + "-" + ARRAY_TASK)
    script = render(plan_job(profile(), run_dir, tasks=(0, 1, 2)))
    assert options(script)["array"] == "0-2%3"
    assert options(script)["output"] == f"{RUN_DIR}-%a/logs/job-%A_%a-batch.log"
    assert f'run_dir={RUN_DIR}-"$SLURM_ARRAY_TASK_ID"' in script


def test_requeue_can_be_switched_off():
    script = render(plan_job(profile(requeue=False), RUN_DIR))
    assert "no-requeue" in options(script)
    assert "\nrequeue=no\n" in script


@pytest.mark.parametrize(
    "name", ["it's", 'a "b"', "$(touch pwned)", "`id`", "a b", "100%", "%j", "-x", "*?[a]", "a;b&c|d", "é", "~", "#a"]
)
def test_a_folder_name_is_one_word_of_the_shell(name):
    run_dir = Path("/data") / name / "x"
    script = render(plan_job(profile(), run_dir))
    head = script[: script.index(attempt_script())]
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    said = subprocess.run(["bash"], input=head + 'printf %s "$run_dir"', text=True, capture_output=True, check=True)
    assert (said.stdout, said.stderr) == (str(run_dir), "")
    assert options(script)["output"].replace("%%", "").count("%") == 1  # %j of the log's name only


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\tb"])
def test_a_folder_name_that_slurm_cannot_carry_is_refused(name):
    (problem,) = find_target("slurm").check(plan_job(profile(), Path("/data") / name / "x"), None)
    assert problem.where == "launch.runs_dir"
    assert re.search(r"must not contain .* Choose another launch.runs_dir", problem.message)


def test_a_job_after_others_is_ended_by_slurm_when_one_of_them_fails():
    after = (Job("7", "slurm"), Job("8_1", "slurm", RUN_DIR))
    asked = options(render(plan_job(profile(), RUN_DIR, after=after)))
    assert (asked["dependency"], asked["kill-on-invalid-dep"]) == ("afterok:7:8_1", "yes")
    asked = options(render(plan_job(profile(sbatch={"kill-on-invalid-dep": "no"}), RUN_DIR, after=after)))
    assert asked["kill-on-invalid-dep"] == "no"


@pytest.mark.parametrize(
    ("job", "sbatch", "said"),
    [
        (Job("quasar", "slurm"), {}, "'quasar' is neither a run nor the id of a job"),
        (Job("7;id", "slurm"), {}, "neither a run nor"),
        (Job("local-7", "local", RUN_DIR), {}, "runs on 'local'; Slurm can wait only for jobs of its own"),
        (Job("7", "slurm"), {"dependency": "singleton"}, r"launch\.sbatch\.dependency is set too"),
    ],
)
def test_what_slurm_cannot_wait_for_is_refused(job, sbatch, said):
    (problem,) = find_target("slurm").check(plan_job(profile(sbatch=sbatch), RUN_DIR, after=(job,)), None)
    assert problem.where == "--after"
    assert re.search(said, problem.message)


def test_a_job_does_not_inherit_the_job_it_is_submitted_from():
    inside = {
        "SLURM_JOB_ID": "7",
        "SLURM_PROCID": "3",
        "SLURM_CPUS_PER_TASK": "4",
        "SLURMD_NODENAME": "n1",
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "MASTER_ADDR": "n1",
        "HPCTRAIN_DEADLINE": "1",
        "PMIX_RANK": "0",
    }
    kept = {"PATH": "/bin", "SLURM_CONF": "/etc/slurm.conf", "SLURM_JWT": "x", "SBATCH_ACCOUNT": "me", "RANKING": "1"}
    assert clean_environment({**inside, **kept}) == kept


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("sbatch: error: invalid partition specified: x", "launch.partition"),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination",
            "launch.account",
        ),
        ("allocation failure: Requested time limit is invalid (missing or exceeds some limit)", "launch.time_limit"),
        ("sbatch: error: Memory specification can not be satisfied", "launch.memory_gib_per_node"),
        ("sbatch: error: Batch job submission failed: Invalid feature specification", "launch.constraint"),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", "GPUs"),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", "ask the admins"),
    ],
)
def test_a_refusal_says_which_key_to_change(words, advice):
    said = explain_refusal(words, plan_job(profile(partition="gpu"), RUN_DIR))
    assert said.startswith("sbatch refuses job 'quasars' (partition=gpu, nodes=1, time=24:00:00):\n  ")
    assert words in said
    assert advice in said.splitlines()[-1]


def as_slurm_reads(line: str) -> str:
    """Read the argument of an ``#SBATCH`` line as Slurm's src/sbatch/opt.c does."""
    argument, quote, position = "", "", 0
    while position < len(line) and (quote or not line[position].isspace()):
        character = line[position]
        position += 1
        if character == "\\":
            argument += line[position]
            position += 1
        elif quote:
            if character == quote:
                quote = ""
            else:
                argument += character
        elif character in "\"'":
            quote = character
        elif character == "#":
            break
        else:
            argument += character
    return argument


@pytest.mark.parametrize(
    "value",
    [
        "/scratch/data",
        "my run",
        "it's mine",
        'a "quoted" word',
        "'",
        '"',
        "a # b",
        "#SBATCH --nodes=9",
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned #",
        "a'; touch pwned; '",
        "&& touch pwned",
        "| tee pwned",
        "> pwned",
        "${HOME}",
        "%j %A",
        "*?[a]{b,c}",
        "~",
        "-x",
        "é ∑ 漢",
        "!!",
        "a" * 1000,
    ],
)
def test_an_option_reaches_slurm_as_it_was_written_and_no_shell_reads_it(value, tmp_path):
    script = render(plan_job(profile(sbatch={"comment": value}), RUN_DIR))
    directives = [line for line in script.splitlines() if line.startswith("#SBATCH")]
    plain = [line for line in render(plan_job(profile(), RUN_DIR)).splitlines() if line.startswith("#SBATCH")]
    (added,) = set(directives) - set(plain)
    assert len(directives) == len(plain) + 1
    assert as_slurm_reads(added.removeprefix("#SBATCH ")) == f"--comment={value}"
    head = script[: script.index(attempt_script())]
    done = subprocess.run(["bash"], input=head, text=True, capture_output=True, check=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value", ["a\nb", "a\n#SBATCH --nodes=9", "a\rb", "a\x1b[31mb", "a\x00b", "a\u2028b", "a\\b", ""]
)
def test_an_option_that_is_no_plain_line_is_refused(value):
    with pytest.raises(ValidationError):
        profile(sbatch={"comment": value})


@pytest.mark.parametrize("option", [*OWN_KEYS, *OURS_ALONE])
def test_everything_the_launcher_sets_is_refused_by_name(option):
    assert refusal(option)
    assert refusal(option[:-1]), "sbatch takes an unambiguous beginning for the whole"


@pytest.mark.parametrize(
    "option", ["comment", "mail-type", "gres-flags", "exclusive", "dependency", "licenses", "begin"]
)
def test_other_options_are_not_refused(option):
    assert refusal(option) is None
