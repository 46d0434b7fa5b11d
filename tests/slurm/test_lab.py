"""The pretend cluster behaves as the cluster it stands for, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slurm_cluster import REPOSITORY, SlurmCluster, missing_commands, wait_until

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_commands()), reason=f"Slurm is not installed: {missing_commands()}"),
]

LAB = str(REPOSITORY / "slurm/lab")


def lab(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LAB, *arguments], capture_output=True, text=True, **options)


def processes_naming(text: str) -> list[str]:
    """Command lines of live processes that contain `text`; zombies have none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and str(os.getpid()) != path.parent.name:
            found.append(line)
    return found


def test_a_step_runs_on_all_nodes_and_sees_its_gpus(slurm):
    script = "echo $SLURMD_NODENAME $SLURM_PROCID/$SLURM_NTASKS $CUDA_VISIBLE_DEVICES"
    out = slurm.run(["srun", "-N4", "--ntasks-per-node=2", "--gpus-per-node=2", "sh", "-c", script]).stdout
    expected = [f"{slurm.nodes[rank // 2]} {rank}/8 0,1" for rank in range(8)]
    assert sorted(out.split("\n"), key=lambda line: line.split(" ")[1:2])[1:] == expected


def test_two_jobs_on_a_node_get_different_gpus(slurm):
    folder = slurm.fresh_dir()
    command = f"echo $CUDA_VISIBLE_DEVICES > {folder}/$SLURM_JOB_ID; sleep 2"
    jobs = [
        slurm.sbatch("-w", slurm.nodes[0], "--gpus-per-node=a100:2", "-o", "/dev/null", "--wrap", command)
        for _ in range(2)
    ]
    for job in jobs:
        assert slurm.wait_for(job) == "COMPLETED"
    assert sorted((folder / job).read_text().strip() for job in jobs) == ["0,1", "2,3"]


def test_asking_for_gpus_that_no_node_has_is_refused_at_once(slurm):
    done = slurm.run(["sbatch", "--gpus-per-node=8", "--wrap", "true"], check=False)
    assert done.returncode == 1
    assert "not available" in done.stderr


def test_a_requeued_job_runs_again_within_seconds_and_counts_its_restarts(slurm):
    log = slurm.fresh_dir() / "log"
    job = slurm.sbatch("-o", log, "--open-mode=append", "--wrap", "echo restart ${SLURM_RESTART_COUNT:-none}; sleep 60")
    wait_until(lambda: log.exists() and "none" in log.read_text(), what="first attempt")
    slurm.run(["scontrol", "requeue", job])
    wait_until(lambda: "restart 1" in log.read_text(), what="second attempt")
    assert slurm.job(job)["Restarts"] == "1"
    slurm.run(["scancel", job])
    assert slurm.wait_for(job) == "CANCELLED"


def test_a_job_of_the_high_partition_pushes_one_of_main_out_after_its_grace_time(slurm):
    folder = slurm.fresh_dir()
    rank = f"trap 'echo TERM >> {folder}/signals' TERM; for i in $(seq 600); do sleep 0.1; done"
    script = folder / "job.sh"
    script.write_text(f'#!/bin/sh\nsrun sh -c "{rank.replace("$", chr(92) + "$")}"\n')
    low = slurm.sbatch("-N4", "--exclusive", "--requeue", "-o", "/dev/null", script)
    slurm.wait_for(low, "RUNNING")
    wait_until(
        lambda: slurm.run(["squeue", "-h", "-s", "-j", low, "-o", "%i"]).stdout.count(f"{low}.0"), "step", pause_s=0.2
    )
    high = slurm.sbatch("-p", "hi", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "true")
    assert slurm.wait_for(high) == "COMPLETED"
    assert (folder / "signals").read_text().startswith("TERM")
    assert slurm.job(low)["Restarts"] == "1"
    slurm.run(["scancel", low])


def test_down_ends_every_process_of_a_job_and_removes_the_directory(tmp_path):
    cluster = SlurmCluster(["--nodes", "1", "--gpus", "0"])
    marker = f"{time.time():.6f}"
    child = f"import time; time.sleep(600) # {marker}"
    body = f"setsid {sys.executable} -c '{child}' & sleep 600"
    cluster.sbatch("-o", "/dev/null", "--wrap", body)
    wait_until(lambda: any("time.sleep(600)" in line for line in processes_naming(marker)), what="job")
    cluster.close()
    assert not cluster.directory.exists()
    wait_until(lambda: not processes_naming(marker), patience_s=300)  # it would end by itself after 600 s
    assert not processes_naming(str(cluster.directory))


def test_a_lab_goes_down_with_a_killed_test_session(tmp_path):
    code = (
        "import sys, time; from slurm_cluster import SlurmCluster; c = SlurmCluster(['--nodes', '1'])\n"
        "print(c.directory, flush=True); time.sleep(600)"
    )
    session = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY / "tests"
    )
    directory = session.stdout.readline().strip()
    assert processes_naming(directory)
    session.send_signal(signal.SIGKILL)
    session.communicate()
    wait_until(lambda: not Path(directory).exists() and not processes_naming(directory), what="lab is gone")


def test_two_labs_live_side_by_side(slurm):
    other = SlurmCluster(["--nodes", "2", "--gpus", "0"])
    try:
        assert not set(other.nodes) & set(slurm.nodes)
        assert other.run(["srun", "-N2", "printenv", "SLURMD_NODENAME"]).stdout.split()
        assert slurm.run(["srun", "-N4", "printenv", "SLURMD_NODENAME"]).stdout.split()
    finally:
        other.close()


def test_run_takes_the_lab_down_and_returns_the_commands_exit_code():
    done = lab("run", "--nodes", "1", "--", "sh", "-c", "echo $SLURM_CONF; srun hostname >/dev/null && exit 7")
    assert done.returncode == 7
    assert not Path(done.stdout.strip()).exists()


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root, and no setpriv to become another")
def test_an_ordinary_user_can_run_a_lab():
    as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_user, sys.executable, LAB, "run", "--nodes", "2", "--", "srun", "-N2", "id", "-u"],
        capture_output=True,
        text=True,
        cwd="/",
    )
    if as_user and "Permission denied" in done.stderr:
        pytest.skip("the checkout is closed to other users")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["65534" if as_user else str(os.geteuid())] * 2


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_private_hosts_give_each_node_a_name_that_the_others_find():
    script = 'for n in $(scontrol show hostnames); do getent hosts "$n"; done; hostname'
    done = lab(
        "run", "--nodes", "2", "--private-hosts", "--prefix", "hpt", "--", "srun", "-N2", "-l", "sh", "-c", script
    )
    assert done.returncode == 0, done.stderr
    assert "0: 127.0.0.12      hpt2" in done.stdout
    assert "1: hpt2" in done.stdout


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: path.chmod(0o700), "to be open to all"),
        (lambda path: path.chmod(0o777), "no sticky bit"),
        (lambda path: (path / "lab").mkdir() or (path / "lab/data").touch(), "not an empty directory"),
    ],
)
def test_a_directory_that_munge_or_the_user_would_regret_is_refused(slurm, prepare, message):
    """munge's own message names neither the directory nor the way out."""
    folder = slurm.fresh_dir()
    prepare(folder)
    done = lab("up", str(folder / "lab"))
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_lab_that_cannot_start_leaves_nothing(slurm):
    folder = slurm.fresh_dir() / "lab"
    done = lab("up", str(folder), "--option", "NoSuchKey=1")
    assert done.returncode == 1
    assert "NoSuchKey" in done.stderr
    assert not folder.exists()
    assert not processes_naming(str(folder))


def test_missing_packages_are_named_with_the_way_to_get_them(tmp_path):
    (tmp_path / "python3").symlink_to(sys.executable)
    done = lab("up", env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "sbatch" in done.stderr
    assert "apt-get install --no-install-recommends slurmctld slurmd slurm-client munge" in done.stderr
