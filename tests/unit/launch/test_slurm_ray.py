"""A job of Slurm that starts Ray on its nodes, as far as neither is needed: its script, and what it does afterwards."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpctrain.errors import EXIT_RANKS_LOST, EXIT_REQUEUE, NodeError, SiteError
from hpctrain.kinds.spectra.section import SpectraSection
from hpctrain.launch.history import EndedAttempt, append_history, read_history
from hpctrain.launch.plan import JobPlan, plan_job
from hpctrain.launch.targets.ray_cluster import is_installed
from hpctrain.launch.targets.slurm import SlurmTarget
from hpctrain.launch.targets.slurm_ray_controller import ControllerInSlurm
from hpctrain.launch.targets.slurm_ray_daemon import own_address, resources, shared_folder
from hpctrain.launch.targets.slurm_script import attempt_script
from hpctrain.profile.families import profile_class
from hpctrain.profile.sections.launch import LaunchSection
from hpctrain.profile.sections.ray import RaySection
from hpctrain.profile.site import Site
from hpctrain.rundir import RunDir, write_json

RUN = "/shared/runs/job/1"


def plan(site: Site | None = None, **launch: object) -> JobPlan:
    shape = {"engine": "ray", "nodes": 4, "gpus_per_node": 2, "cpus_per_rank": 8, "memory_gib_per_node": 64}
    profile = profile_class()(
        name="job", launch=LaunchSection(**{**shape, **launch}), data=SpectraSection(files=["none.h5"])
    )
    return plan_job(profile, RunDir(RUN).path, SlurmTarget(), site)


def script(plan: JobPlan) -> str:
    return SlurmTarget().files(plan)["job.sh"]


def directives(text: str) -> set[str]:
    return {line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")}


def test_a_job_with_ray_has_one_task_per_node_with_all_that_its_ranks_need():
    site = Site(ray=RaySection(resources={"accelerator_type:A100": 0.001}, wait_s=7), setup=["ulimit -n 4096"])
    files = SlurmTarget().files(plan(site))
    asked = directives(files["job.sh"])
    assert {"--nodes=4", "--ntasks-per-node=1", "--cpus-per-task=16", "--gpus-per-node=2", "--mem=65536M"} <= asked
    assert not any("kill" in option for option in asked)
    lines = files["job.sh"].splitlines()
    assert "runs_ray=yes" in lines
    assert any(line.endswith("-u -m hpctrain.launch.targets.slurm_ray_node)") for line in lines)
    assert lines.index("ulimit -n 4096") < lines.index("export RAY_AUTH_MODE=token")
    request = json.loads(files["ray.json"])
    bundle = {"CPU": 16, "GPU": 2, "memory": 64 * 2**30, "accelerator_type:A100": 0.001}
    assert (request["bundle_of_each_node"], request["nodes"], request["min_nodes"]) == (bundle, 4, 4)
    assert (request["wait_s"], request["setup"]) == (7, [])  # the batch script has set up


def test_each_job_has_another_token_that_its_script_does_not_contain():
    text = script(plan())
    head = text[: text.index(attempt_script())] + 'printf %s "$RAY_AUTH_TOKEN"'
    found = [subprocess.run(["bash"], input=head, text=True, capture_output=True, check=True).stdout for _ in range(2)]
    assert all(len(token) == 64 and set(token) <= set("0123456789abcdef") for token in found)
    assert found[0] != found[1]


def test_an_elastic_job_may_have_fewer_nodes_and_outlives_one():
    text = script(plan(min_nodes=2))
    assert {"--nodes=2-4", "--cpus-per-task=16", "--no-kill"} <= directives(text)
    assert not any(
        "ntasks" in option for option in directives(text)
    )  # Slurm would take two nodes also if four are free
    assert "runs_ray=elastic" in text.splitlines()
    plain = script(plan(engine=None, min_nodes=2))
    assert "runs_ray=no" in plain.splitlines()
    assert "RAY_AUTH" not in plain
    assert {"--nodes=4", "--ntasks-per-node=2", "--cpus-per-task=8"} <= directives(plain)


def test_what_ray_in_a_job_cannot_do_is_said_before_anything_is_written():
    def wrong(plan: JobPlan, site: Site | None = None) -> list[str]:
        return [problem.where for problem in SlurmTarget().check(plan, site)]

    container = Site(container="apptainer exec x.sif")
    assert wrong(plan()) == []
    assert wrong(plan(min_nodes=5)) == ["launch.min_nodes"]
    assert wrong(plan(container), container) == ["launch.site"]
    assert wrong(replace(plan(), tasks=(0, 1))) == ["--array"]
    assert wrong(replace(plan(), prepare=("choose",))) == ["launch.cluster"]
    assert wrong(replace(plan(engine=None), prepare=("choose",))) == []


def row(restart: int, followed: str, code: int = 75, before: str = "none") -> EndedAttempt:
    return EndedAttempt(1.0, "7", restart, code, before, before, followed)


SRUN = """echo "$@" > "$FAKE/srun.log"
while read -r line; do echo "${line//;/$'\\t'}" >> "$run_dir/attempts/ended.tsv"; done < "$FAKE/rows"
[ "$SAYS" = nothing ] || echo "$SAYS" > "$run_dir/attempts/ray-7.1.code"
eval "$ACTS"
echo "srun: error: Node failure on n2" >&2
exit $CODE"""


@pytest.mark.skipif(is_installed(), reason="Ray is installed here")
def test_a_job_whose_python_lacks_ray_is_not_submitted(tmp_path):
    for ask in (SlurmTarget().ask, SlurmTarget().submit):
        with pytest.raises(SiteError, match=r"launch.engine: ray needs Ray"):
            ask(plan(), {})


def run_script(folder: Path, rows: list[EndedAttempt], runs_ray: str = "elastic", **variables: str) -> RunDir:
    """Run the second job's attempt, in which Ray adds `rows` to those of the first one."""
    run = RunDir.create(folder, "run")
    run.make_folders()
    append_history(run, row(0, "requeued"))
    append_history(run, row(1, "requeued"))
    fake = folder / "fake"
    fake.mkdir()
    commands = {"srun": SRUN, "squeue": "", "sinfo": "echo 10.0.0.7", "scontrol": 'echo "$@" >> "$FAKE/scontrol.log"'}
    for name, body in commands.items():
        (fake / name).write_text(f"#!/bin/bash\n{body}\n")
        (fake / name).chmod(0o755)
    fields = [(9, "7", item.restart, item.exit_code, item.before, item.after, item.followed) for item in rows]
    (fake / "rows").write_text("".join(";".join(map(str, line)) + "\n" for line in fields))
    head = f"run_dir={run.path} trainer=(node) requeue=yes max_attempts=9 max_attempts_without_progress=3\n"
    subprocess.run(
        ["bash"],
        input=f"{head}runs_ray={runs_ray} prepare=() longest_slice=\nexport run_dir\n{attempt_script()}",
        env={
            "PATH": f"{fake}{os.pathsep}{os.environ['PATH']}",
            "FAKE": str(fake),
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_RESTART_COUNT": "1",
            "CODE": "1",
            "SAYS": "nothing",
            "ACTS": ":",
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return run


def requeued(run: RunDir) -> bool:
    return "requeue 7" in (run.path.parents[1] / "fake/scontrol.log").read_text()


def test_what_the_first_node_says_counts_and_not_that_srun_lost_a_node(tmp_path):
    run = run_script(tmp_path, [row(2, "requeued", 137), row(3, "finished", 0)], SAYS="0")
    assert [(item.restart, item.followed) for item in read_history(run)][2:] == [(2, "requeued"), (3, "finished")]
    assert not requeued(run)
    assert list(run.attempts.glob("ray-*")) == []
    asked = (tmp_path / "fake/srun.log").read_text()
    assert "--kill-on-bad-exit=0" in asked
    assert "--nodes=2 --ntasks=2 --ntasks-per-node=1 --no-kill node" in asked
    assert "--output" not in asked  # the words of Ray belong into the log of the job; its ranks have their own


@pytest.mark.parametrize(("code", "goes_on"), [("75", True), ("76", True), ("77", True), ("3", False), ("6", False)])
def test_the_code_of_the_first_node_says_whether_the_job_is_requeued(tmp_path, code, goes_on):
    last = row(2, "requeued" if goes_on else "failed", int(code))
    run = run_script(tmp_path, [last], runs_ray="yes", SAYS=code)
    assert requeued(run) == goes_on
    assert [item.restart for item in read_history(run)] == [0, 1, 2]  # the attempt of the ranks is there once
    assert "--no-kill" not in (tmp_path / "fake/srun.log").read_text()


@pytest.mark.parametrize("word", ["no-progress", "too-many-attempts", "requeue-is-off"])
def test_a_limit_that_the_attempts_have_reached_ends_the_job_too(tmp_path, word):
    run = run_script(tmp_path, [row(2, word)], SAYS="3")
    assert [(item.restart, item.followed) for item in read_history(run)][2:] == [(2, word)]
    assert not requeued(run)


def test_who_ends_the_job_decides_what_followed_its_last_attempt(tmp_path):
    run = run_script(tmp_path, [row(2, "requeued")], SAYS="75", ACTS="kill -TERM $PPID; sleep 0.3")
    assert [(item.restart, item.followed) for item in read_history(run)][-1] == (2, "terminated")
    assert not requeued(run)


def test_a_job_whose_ray_never_starts_is_an_attempt_without_progress(tmp_path):
    run = run_script(tmp_path, [], SAYS="77")
    last = read_history(run)[-1]
    assert (last.restart, last.exit_code, last.followed) == (2, 77, "no-progress")


@pytest.fixture
def controller(tmp_path, monkeypatch) -> ControllerInSlurm:
    monkeypatch.setattr("signal.signal", lambda number, handler: None)  # those of the tests stay
    run = RunDir.create(tmp_path, "run")
    bundle = {"bundle_of_each_node": {"CPU": 1}, "setup": [], "command": [], "strategy": "STRICT_SPREAD"}
    write_json(run.path / "ray.json", {**bundle, "nodes": 2, "min_nodes": 1, "wait_s": 5})
    write_json(run.job, {"lead_s": 60})
    return ControllerInSlurm(run, "7", run.logs / "nodes.log", 2, None)


def test_what_the_job_ends_with_asks_slurm_for_what_it_lacks(controller):
    assert controller.ends_with([75, 75]) is None
    assert controller.ends_with([None, 76]) is None
    assert controller.ends_with([75, 77]) == NodeError.exit_code
    assert controller.ends_without_room() == EXIT_RANKS_LOST
    controller._deadline_s = 1.0
    assert controller.ends_with([75, 75]) == EXIT_REQUEUE
    controller._note_end(15, None)
    assert controller.is_cancelled()
    assert controller.ends_with([75, 77]) == controller.ends_without_room() == EXIT_REQUEUE


def test_a_node_of_ray_has_what_an_attempt_asks_of_it():
    asked = resources({"CPU": 16, "GPU": 2, "memory": 64 * 2**30, "fast_disk": 1})
    assert asked[:3] == ["--num-cpus=16", "--num-gpus=2", f"--memory={64 * 2**30}"]
    assert '--resources={"fast_disk": 1}' in asked
    assert "--num-gpus=0" in resources({"CPU": 1})


def test_the_last_user_of_a_folder_removes_it_and_that_of_somebody_else_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "ray"
    with shared_folder(folder):
        with shared_folder(folder):
            assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.exists()
    assert not folder.exists()
    folder.symlink_to(tmp_path)
    with pytest.raises(SiteError, match="belongs to somebody else"), shared_folder(folder):
        pass


def test_a_node_is_not_known_to_others_by_its_loopback():
    assert not own_address("localhost").startswith("127.") or own_address("10.0.0.7").startswith("127.")
