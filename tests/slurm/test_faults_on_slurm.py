"""Every fault a Slurm can deal, on a real one with the real trainer: the run ends with the bits of one left in peace.

All runs are submitted at once and each has a thread that waits for its moment and does the harm; a test looks at the
outcome of its own. A node of this lab has one core, so a job owns its nodes, and a node that is killed is one job's.
With ``ALL_FAULTS=1`` in the environment the slow faults run too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fault_lab import CHECKPOINT_EVERY, NUM_STEPS, FaultedRun
from slurm_cluster import PACKAGES, SlurmCluster, missing_commands, wait_until

pytestmark = pytest.mark.slurm

Drive = Callable[[FaultedRun], None]
SCENARIOS: dict[str, tuple[Drive, dict[str, dict[str, object]]]] = {}
SLOW: set[str] = set()


def scenario(slow: bool = False, **changes: dict[str, object]) -> Callable[[Drive], Drive]:
    """Make a function the driver of a run of its name."""

    def note(drive: Drive) -> Drive:
        name = drive.__name__.replace("_", "-")
        SCENARIOS[name] = (drive, changes)
        if slow:
            SLOW.add(name)
        return drive

    return note


# ---- what Slurm does ----------------------------------------------------------------------------------------------


@scenario()
def left_in_peace(run: FaultedRun) -> None:
    run.wait_until_finished()


@scenario()
def time_limit(run: FaultedRun) -> None:
    run.wait_for_step(15)
    run.signal(signal.SIGSTOP, 0, 1)  # a slow step, which lasts until Slurm has sent its warning
    run.scontrol("update", f"JobId={run.job}", "EndTime=now+35")
    for rank in (0, 1):
        run.wait_for_pending(signal.SIGUSR2, rank)
    run.signal(signal.SIGCONT, 0, 1)
    run.wait_until_finished()


@scenario(slow=True, launch={"time_limit": "00:01:00", "signal_lead_s": 0})
def time_limit_without_warning(run: FaultedRun) -> None:
    run.wait_for_step(30)
    run.signal(signal.SIGSTOP, 1)  # nobody can agree on a stop before the kill
    run.wait_until_finished()


@scenario()
def preemption_with_grace(run: FaultedRun) -> None:
    run.wait_for_step(15)
    _push_out(run)
    run.wait_until_finished()


@scenario(launch={"partition": "low"})
def preemption_without_grace(run: FaultedRun) -> None:
    run.wait_for_step(15)
    _push_out(run)
    run.wait_until_finished()


def _push_out(run: FaultedRun) -> None:
    run.cluster.sbatch("-p", "hi", "-N2", "-n2", "-w", ",".join(run.nodes()), "-o", "/dev/null", "--wrap", "sleep 2")


@scenario()
def scontrol_requeue(run: FaultedRun) -> None:
    run.wait_for_step(15)
    run.scontrol("requeue", run.job)
    run.wait_until_finished()


@scenario()
def scancel(run: FaultedRun) -> None:
    run.wait_for_step(15)
    run.cluster.run(["scancel", run.job])
    assert run.wait_for_end() == "CANCELLED"
    run.wait_for_history(1)
    assert run.status()["state"] == "cancelled"
    assert run.processes() == {}
    run.resume()
    run.wait_until_finished()


@scenario()
def controller_restarted(run: FaultedRun) -> None:
    """The controller is away while the ranks save and the batch script asks for a requeue."""
    run.wait_for_step(15)
    directory = run.cluster.directory
    pid_file = directory / "run/slurmctld.pid"
    controller = int(pid_file.read_text())
    os.kill(controller, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{controller}").exists(), 20)
    run.signal(signal.SIGUSR2, 0, 1)
    run.wait_for_history(1)
    time.sleep(3)
    with open(directory / "log/start.log", "a") as log:
        command = ["slurmctld", "-f", str(directory / "etc/slurm.conf")]
        subprocess.run(command, check=True, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=run.cluster.env)
    wait_until(lambda: run.cluster.run(["squeue"], check=False).returncode == 0, 30)
    run.wait_until_finished()


# ---- what dies ----------------------------------------------------------------------------------------------------


@scenario()
def kill_rank_1(run: FaultedRun) -> None:
    run.wait_for_step(30)
    run.signal(signal.SIGKILL, 1)
    run.wait_until_finished()


@scenario()
def kill_rank_0(run: FaultedRun) -> None:
    run.wait_for_step(30)
    run.signal(signal.SIGKILL, 0)
    run.wait_until_finished()


@scenario()
def kill_srun(run: FaultedRun) -> None:
    run.wait_for_step(30)
    os.kill(run.srun_pid(), signal.SIGKILL)
    run.wait_until_finished()


@scenario()
def kill_batch_shell(run: FaultedRun) -> None:
    """Nobody is left who could ask for a requeue; Slurm calls the job failed, and the user goes on with it."""
    run.wait_for_step(30)
    os.kill(run.batch_shell(), signal.SIGKILL)
    assert run.wait_for_end() == "FAILED"
    wait_until(lambda: not run.processes(), 30, "the ranks to leave")
    assert run.status()["state"] in ("failed", "stopped")
    run.resume()
    run.wait_until_finished()


@scenario()
def node_death(run: FaultedRun) -> None:
    run.wait_for_step(30)
    _kill_node(run.cluster, run.nodes()[1])
    run.wait_until_finished()


@scenario(slow=True)
def first_node_death(run: FaultedRun) -> None:
    """With the batch shell's own node: only Slurm can requeue."""
    run.wait_for_step(30)
    _kill_node(run.cluster, run.nodes()[0])
    run.wait_until_finished()


def _kill_node(cluster: SlurmCluster, node: str) -> None:
    """End slurmd, its slurmstepd and all they started, as a power cut would."""
    os.kill(int((cluster.directory / f"run/slurmd-{node}.pid").read_text()), signal.SIGKILL)
    log = f"{cluster.directory}/log/slurmd-{node}.log"
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_stepd = path.joinpath("comm").read_text().startswith("slurmstepd")
            is_its = (
                any(os.readlink(item) == log for item in path.joinpath("fd").iterdir())
                if is_stepd
                else (f"SLURMD_NODENAME={node}".encode() in path.joinpath("environ").read_bytes().split(b"\0"))
            )
            if is_its:
                os.kill(int(path.name), signal.SIGKILL)
        except OSError:
            continue


# ---- signals at bad moments ---------------------------------------------------------------------------------------


@scenario()
def signal_in_the_first_second(run: FaultedRun) -> None:
    run.signal(signal.SIGUSR2, 0, 1)  # as soon as the processes exist: Python has hardly begun
    run.wait_until_finished()


@scenario()
def signal_during_import(run: FaultedRun) -> None:
    pid = run.rank_pid(0)
    wait_until(lambda: "libtorch" in Path(f"/proc/{pid}/maps").read_text(), 60, "torch being imported")
    assert not run.last_record()
    run.signal(signal.SIGTERM, 0, 1)
    run.wait_until_finished()


@scenario()
def signal_during_evaluation(run: FaultedRun) -> None:
    def evaluating() -> bool:
        record = run.last_record()
        return record.get("kind") == "train" and record["step"] % 10 == 0

    run.warn_when(evaluating, signal.SIGUSR2, 0, 1)
    run.wait_until_finished()


@scenario()
def signal_during_a_save(run: FaultedRun) -> None:
    def saving() -> bool:
        return any(run.run.checkpoints.glob(".step-*"))

    run.warn_when(saving, signal.SIGTERM, 0, 1)
    run.wait_until_finished()


@scenario()
def signal_on_one_rank(run: FaultedRun) -> None:
    run.wait_for_step(15)
    run.signal(signal.SIGTERM, 1)
    run.wait_until_finished()


@scenario()
def two_signals(run: FaultedRun) -> None:
    run.wait_for_step(15)
    run.signal(signal.SIGUSR2, 0, 1)
    run.signal(signal.SIGTERM, 0, 1)
    run.wait_until_finished()


@scenario()
def signal_after_the_last_step(run: FaultedRun) -> None:
    def finishing() -> bool:
        record = run.last_record()
        return record.get("step") == NUM_STEPS and record.get("event") != "finished"

    run.warn_when(finishing, signal.SIGTERM, 0)
    run.wait_until_finished()


# ---- what does not die --------------------------------------------------------------------------------------------


@scenario(monitor={"hang_timeout_s": 8})
def hang(run: FaultedRun) -> None:
    run.wait_for_step(30)
    run.signal(signal.SIGSTOP, 1)
    run.wait_until_finished()


@scenario()
def bad_node(run: FaultedRun) -> None:
    """A node kills the rank on it twice; the next attempt stays away from it."""
    run.wait_for_step(25)
    node = run.nodes()[1]
    run.signal(signal.SIGKILL, 1)
    run.wait_for_history(1)
    strikes = run.run.bad_nodes
    assert f"\t{node}\t{run.job}\tkilled" in strikes.read_text()
    with open(strikes, "a") as stream:  # the second strike: whether the job comes back to this node is Slurm's choice
        stream.write(f"{time.time():.0f}\t{node}\t{run.job}\tkilled\n")
    assert run.status()["avoided_nodes"] == [node]
    run.wait_for_step(45)
    run.signal(signal.SIGUSR2, 0, 1)
    run.wait_until_finished()
    assert node in run.cluster.job(run.job)["ExcNodeList"]


RUNNING = [name for name in SCENARIOS if name not in SLOW or os.environ.get("ALL_FAULTS") == "1"]


# ---- the fixture --------------------------------------------------------------------------------------------------


class Outcomes:
    """All runs of this module, each with the thread that drives it."""

    def __init__(self, cluster: SlurmCluster, names: list[str]) -> None:
        folder = cluster.fresh_dir()
        write_spectra(folder / "spectra.h5")
        self._errors: dict[str, BaseException] = {}
        self._threads: dict[str, threading.Thread] = {}
        self.runs = {name: FaultedRun(cluster, folder, name, **SCENARIOS[name][1]) for name in names}
        for name in names:
            self._threads[name] = threading.Thread(target=self._drive, args=(name,), daemon=True)
            self._threads[name].start()

    def _drive(self, name: str) -> None:
        run, began = self.runs[name], time.monotonic()
        try:
            SCENARIOS[name][0](run)
        except BaseException as error:  # raised again in the test of this scenario
            self._errors[name] = error
        run.seconds = time.monotonic() - began

    def __getitem__(self, name: str) -> FaultedRun:
        self._threads[name].join()
        if name in self._errors:
            raise self._errors[name]
        return self.runs[name]


def write_spectra(path: Path) -> None:
    import h5py

    rng = np.random.default_rng(1)
    wavelength_aa = np.linspace(3600, 9000, 256)
    flux = 5 + np.sin(wavelength_aa / 300) * rng.normal(size=(200, 1)) + 0.3 * rng.normal(size=(200, 256))
    with h5py.File(path, "w") as file:
        file["wavelength"] = wavelength_aa
        file["flux"] = flux.astype("f4")
        file["ivar"] = np.full(flux.shape, 1 / 0.09, "f4")
        file["target_id"] = np.arange(200)
        file["redshift"] = rng.uniform(0.05, 0.3, 200).astype("f4")


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    if missing := missing_commands():
        pytest.skip(f"Slurm is not installed ({', '.join(missing)}): apt-get install {PACKAGES}")
    low = "PartitionName=low Nodes=ALL PriorityTier=10 GraceTime=0 MaxTime=INFINITE DefMemPerCPU=100 State=UP"
    cluster = SlurmCluster(["--nodes=12", "--cpus=1", "--gpus=0", f"--option={low}"])
    chosen = [item.name for item in request.session.items if item.module is request.module]
    names = ["left-in-peace", *(name for name in RUNNING if any(f"[{name}]" in item for item in chosen))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        try:
            yield Outcomes(cluster, list(dict.fromkeys(names)))
        finally:
            cluster.close()


@pytest.mark.parametrize("name", [name for name in RUNNING if name != "left-in-peace"])
def test_the_run_ends_with_the_bits_of_one_left_in_peace(outcomes, name):
    run, twin = outcomes[name], outcomes["left-in-peace"]
    assert [step for step, _, _ in run.losses()] == list(range(1, NUM_STEPS + 1))
    assert run.losses() == twin.losses()
    assert run.evaluations() == twin.evaluations()
    assert run.weights() == twin.weights()
    assert run.processes() == {}
    assert len(run.followed()) <= 6
    for event in run.events("resumed"):
        assert event["steps_lost"] <= CHECKPOINT_EVERY
    print(f"{name}: {run.followed()} in {run.seconds:.0f} s")
