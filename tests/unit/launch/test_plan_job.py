"""Profile and site to batch script: what lands in it, and what never does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hpctrain.errors import SiteError
from hpctrain.launch.environment import clean_environment
from hpctrain.launch.plan import ARRAY_TASK, attempt_script, plan_job
from hpctrain.launch.slurm import explain_refusal, render
from hpctrain.profile.schema import DataSection, LaunchSection, Profile
from hpctrain.profile.site import Site

RUN_DIR = Path("/data/runs/quasars/20261121-143000-7f3a")


def profile(**launch) -> Profile:
    return Profile(name="quasars", launch=LaunchSection(**launch), data=DataSection(files=["a.h5"]))


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


def test_an_array_has_a_run_directory_per_task():
    run_dir = RUN_DIR.with_name(RUN_DIR.name + "-" + ARRAY_TASK)
    script = render(plan_job(profile(), run_dir, array_size=3))
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
    with pytest.raises(SiteError, match=r"must not contain .* Choose another launch.runs_dir"):
        plan_job(profile(), Path("/data") / name / "x")


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
