"""Every fault a Slurm can deal, on a real one with the real trainer: the run ends with the bits of one left in peace.

All runs are submitted at once and each has a thread that waits for its moment and does the harm; a test looks at the
outcome of its own. A job owns its nodes, so a node that is killed is one job's.
With ``ALL_FAULTS=1`` in the environment the slow faults run too; ``KEEP_RUNS=DIR`` keeps the run directories there.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fault_lab import CHECKPOINT_EVERY, NUM_STEPS, FaultedRun, Queue, environment_of, is_at_work, send
from processes import wait_until
from slurm_cluster import PACKAGES, SlurmCluster, missing_commands

pytestmark = pytest.mark.slurm

Drive = Callable[[FaultedRun], None]


@dataclass(frozen=True)
class Scenario:
    """One run and what happens to it: `slow` ones only with ALL_FAULTS, those that `wait` for Slurm's clocks first."""

    drive: Drive
    slow: bool
    waits: bool
    own_lab: bool
    changes: dict[str, dict[str, object]]


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    slow: bool = False, waits: bool = False, own_lab: bool = False, **changes: dict[str, object]
) -> Callable[[Drive], Drive]:
    """Make a function the driver of a run of its name."""

    def note(drive: Drive) -> Drive:
        SCENARIOS[drive.__name__.replace("_", "-")] = Scenario(drive, slow, waits, own_lab, changes)
        return drive

    return note


# ---- what Slurm does ----------------------------------------------------------------------------------------------


@scenario()
def left_in_peace(run: FaultedRun) -> None:
    run.wait_until_finished()


@scenario(waits=True)
def time_limit(run: FaultedRun) -> None:
    run.wait_for_step(15)
    run.signal(signal.SIGSTOP, 0, 1)  # a slow step, which lasts until Slurm has sent its warning
    run.scontrol("update", f"JobId={run.job}", "EndTime=now+35")
    for rank in (0, 1):
        run.wait_for_pending(signal.SIGUSR2, rank)
    run.signal(signal.SIGCONT, 0, 1)
    run.wait_until_finished()


@scenario(slow=True, waits=True, launch={"time_limit": "00:01:00", "signal_lead_s": 0})
def time_limit_without_warning(run: FaultedRun) -> None:
    """Nobody can agree on a stop before Slurm's TERM, and the CONT with it; then they can, until its KILL."""
    run.wait_for_step(1)
    run.signal(signal.SIGSTOP, 1)
    run.wait_for_history(1)
    assert "DUE TO TIME LIMIT" in run.log("*batch.log")
    run.wait_until_finished()


@scenario(waits=True)
def time_limit_shortened(run: FaultedRun) -> None:
    """The deadline that the batch script has read is minutes away, and a rank hangs until it is killed."""
    run.wait_for_step(15)
    with run.slowed([run.rank_pid(1)], go_s=0, stop_s=1):
        run.scontrol("update", f"JobId={run.job}", "EndTime=now+5")
        run.wait_for_history(1)
        assert [(ended.exit_code, ended.followed) for ended in run.ended()] == [(143, "requeued")]
        assert "DUE TO TIME LIMIT" in run.log("*batch.log")
    run.wait_until_finished()


@scenario(waits=True)
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


@scenario(own_lab=True)
def controller_restarted(run: FaultedRun) -> None:
    """The controller is away while the ranks save and the batch script asks for a requeue."""
    run.wait_for_step(15)
    _end_controller(run.cluster, signal.SIGTERM)
    run.signal(signal.SIGUSR2, 0, 1)
    run.wait_for_history(1)
    time.sleep(3)
    _start_controller(run.cluster)
    run.wait_until_finished()


@scenario(own_lab=True)
def controller_killed(run: FaultedRun) -> None:
    """In the shared lab others' jobs of the last five seconds would be lost with what it had not written."""
    run.wait_for_step(15)
    with run.slowed([run.rank_pid(0), run.rank_pid(1)], go_s=0.2, stop_s=0.3):  # or they are done before it is back
        _end_controller(run.cluster, signal.SIGKILL)
        reached = run.last_record()["step"]
        run.wait_for_step(reached + 5)  # training goes on
        _start_controller(run.cluster)
        assert run.cluster.job(run.job)["JobState"] == "RUNNING"
        run.signal(signal.SIGUSR2, 0, 1)
        run.wait_for_history(1)
    run.wait_until_finished()
    assert run.followed() == ["requeued", "finished"]


def _end_controller(cluster: SlurmCluster, number: signal.Signals) -> None:
    controller = int((cluster.directory / "run/slurmctld.pid").read_text())
    os.kill(controller, number)
    wait_until(lambda: not Path(f"/proc/{controller}").exists())


def _start_controller(cluster: SlurmCluster) -> None:
    with open(cluster.directory / "log/start.log", "a") as log:
        command = ["slurmctld", "-f", str(cluster.directory / "etc/slurm.conf")]
        subprocess.run(command, check=True, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=cluster.env)
    wait_until(lambda: cluster.run(["squeue"], check=False).returncode == 0)


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
    run.wait_until(lambda: not run.processes(), "the ranks to leave")
    assert run.status()["state"] in ("failed", "stopped")
    run.resume()
    run.wait_until_finished()


@scenario(waits=True)
def node_death(run: FaultedRun) -> None:
    run.wait_for_step(30)
    _kill_node(run.cluster, run.nodes()[1])
    run.wait_until_finished()


@scenario(waits=True)
def first_node_death(run: FaultedRun) -> None:
    """With the batch shell's own node: only Slurm can requeue."""
    run.wait_for_step(30)
    _kill_node(run.cluster, run.nodes()[0])
    run.wait_until_finished()


def _kill_node(cluster: SlurmCluster, node: str) -> None:
    """End slurmd, its slurmstepd and all they started, as a power cut would."""
    send(_daemons(cluster, node), signal.SIGKILL)
    mark = f"SLURMD_NODENAME={node}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)


def _daemons(cluster: SlurmCluster, node: str) -> list[int]:
    """Return slurmd and the slurmstepd of a node, which write its log."""
    log = f"{cluster.directory}/log/slurmd-{node}.log"
    found = [int((cluster.directory / f"run/slurmd-{node}.pid").read_text())]
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if path.joinpath("comm").read_text().startswith("slurmstepd") and any(
                os.readlink(item) == log for item in path.joinpath("fd").iterdir()
            ):
                found.append(int(path.name))
    return found


# ---- signals at bad moments ---------------------------------------------------------------------------------------


@scenario()
def signal_in_the_first_second(run: FaultedRun) -> None:
    run.signal(signal.SIGUSR2, 0, 1)  # as soon as the processes exist: Python has hardly begun
    run.wait_until_finished()


@scenario()
def signal_during_import(run: FaultedRun) -> None:
    pid = run.rank_pid(0)
    run.wait_until(lambda: "libtorch" in Path(f"/proc/{pid}/maps").read_text(), "torch being imported")
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
def second_term_later(run: FaultedRun) -> None:
    """Rank 0 waits in a collective for one that is deaf, so it cannot save; whoever insists is obeyed."""
    run.wait_for_step(15)
    run.signal(signal.SIGSTOP, 1)
    time.sleep(1)
    run.signal(signal.SIGTERM, 0)
    time.sleep(2.5)
    assert run.followed() == []
    run.signal(signal.SIGTERM, 0)
    run.wait_for_history(1)
    assert "task 0: Exited with exit code 143" in run.log("*.0-srun.log")
    assert run.followed() == ["requeued"]
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
    stacks = run.log("stacks-rank-0000.txt")
    assert re.search(r"nothing happened for \d+ s \(rank 0 at step \d+, training\)", stacks)
    assert re.search(r'hpctrain/train/\w+\.py", line \d+ in \w+\n(.*\n)*.*loop\.py", line \d+ in train\n', stacks)


@scenario(waits=True, launch={"nodes": 1, "ranks_per_node": 2}, monitor={"heartbeat_s": 300})
def zombie(run: FaultedRun) -> None:
    """A node is cut off: its ranks live on and write, beside those of the job that Slurm runs again elsewhere.

    They beat too rarely to notice the other attempt by that; it is their next checkpoint that is refused.
    """
    run.wait_for_step(25)
    node = run.nodes()[0]
    ranks = [run.rank_pid(0), run.rank_pid(1)]
    daemons = _daemons(run.cluster, node)
    send(daemons, signal.SIGSTOP)
    try:
        with run.slowed(ranks, go_s=0.05, stop_s=1.95):
            run.wait_until(lambda: run.last_record().get("attempt") == 2, "the job to run again")
            assert all(is_at_work(pid) for pid in ranks)
        run.wait_until(lambda: not any(is_at_work(pid) for pid in ranks), "the zombies to leave by themselves")
    finally:
        send(daemons, signal.SIGCONT)
    run.wait_until_finished()
    assert "attempt 1 was replaced by attempt 2; this one may not save" in run.log("*.0-rank-0*.log")
    assert run.followed()[-1] == "finished"
    assert "requeued" not in run.followed()
    run.wait_until(lambda: not run.processes(), "what is left on the node to be ended")


@scenario()
def unfit_node(run: FaultedRun) -> None:
    """Whatever one rank writes to a file fails, as on a node whose file system is read-only."""
    pid = run.rank_pid(1)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))
    node = environment_of(pid)["SLURMD_NODENAME"]
    run.wait_for_history(1)
    assert [(ended.exit_code, ended.followed) for ended in run.ended()] == [(77, "requeued")]
    table = run.log("*.0-rank-0000.log")
    assert f"pre-flight: 1 of 2 node(s) not fit: {node}\n" in table
    assert re.search(rf"  {node}  rank 1  cpu  cannot write to {run.run.path}: File too large", table)
    run.wait_until_finished()
    assert node in run.cluster.job(run.job)["ExcNodeList"]
    assert node not in run.events("started")[-1]["hosts"]


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


NUM_NODES = 12
RUNNING = [name for name, it in SCENARIOS.items() if not it.slow or os.environ.get("ALL_FAULTS") == "1"]


# ---- the fixture --------------------------------------------------------------------------------------------------


class Outcomes:
    """All runs of this module, each with the thread that drives it."""

    def __init__(self, clusters: dict[str, SlurmCluster], folder: Path) -> None:
        write_spectra(folder / "spectra.h5")
        self._errors: dict[str, BaseException] = {}
        self._threads: dict[str, threading.Thread] = {}
        self.runs: dict[str, FaultedRun] = {}
        queues = {cluster: Queue(cluster) for cluster in clusters.values()}
        for name, cluster in clusters.items():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
                self.runs[name] = FaultedRun(cluster, queues[cluster], folder, name, **SCENARIOS[name].changes)
        for name in clusters:
            self._threads[name] = threading.Thread(target=self._drive, args=(name,), daemon=True)
            self._threads[name].start()

    def _drive(self, name: str) -> None:
        run, began = self.runs[name], time.monotonic()
        try:
            SCENARIOS[name].drive(run)
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


@pytest.fixture(autouse=True)
def _nothing_left_running() -> None:
    """End nothing after a test: what runs then belongs to the scenarios of other tests."""


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    if missing := missing_commands():
        pytest.skip(f"Slurm is not installed ({', '.join(missing)}): apt-get install {PACKAGES}")
    low = "PartitionName=low Nodes=ALL PriorityTier=10 GraceTime=0 MaxTime=INFINITE DefMemPerCPU=100 State=UP"
    options = ["--cpus=2", "--gpus=0", f"--option={low}"]
    chosen = [item.name for item in request.session.items if item.module is request.module]
    names = {"left-in-peace", *(name for name in RUNNING if any(f"[{name}]" in item for item in chosen))}
    with contextlib.ExitStack() as stack:

        def lab(num_nodes: int) -> SlurmCluster:
            cluster = SlurmCluster([f"--nodes={num_nodes}", *options])
            stack.callback(cluster.close)
            return cluster

        shared = lab(NUM_NODES)
        folder = shared.fresh_dir()
        in_order = sorted(names, key=lambda name: (not SCENARIOS[name].waits, RUNNING.index(name)))
        yield Outcomes({name: lab(2) if SCENARIOS[name].own_lab else shared for name in in_order}, folder)
        if keep := os.environ.get("KEEP_RUNS"):
            shutil.copytree(folder / "runs", keep, dirs_exist_ok=True)


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
