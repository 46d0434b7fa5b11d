"""Every fault a Slurm can deal, on a real one with the real trainer: the run ends with the bits of one left in peace.

All runs are submitted at once and each has a thread that deals out its faults (`fault_chains.py`); a test looks at the
outcome of one fault. A job owns its nodes, so a node that is killed is one job's.
With ``ALL_FAULTS=1`` in the environment the slow faults run too; ``KEEP_RUNS=DIR`` keeps the run directories there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest
from fault_chains import LEFT_IN_PEACE, RUNNING, Chain, Course
from fault_lab import CHECKPOINT_EVERY, NUM_STEPS, Queue, write_spectra
from faulted_run import FaultedRun
from slurm_cluster import PACKAGES, SlurmCluster, missing_commands

pytestmark = pytest.mark.slurm

NUM_NODES = 12
ENDS_FINISHED = ("signal-after-the-last-step", "zombie")
LOW = "PartitionName=low Nodes=ALL PriorityTier=10 GraceTime=0 MaxTime=INFINITE DefMemPerCPU=100 State=UP"


@pytest.fixture(autouse=True)
def _nothing_left_running() -> None:
    """End nothing after a test: what runs then belongs to the faults of other tests."""


@pytest.fixture(scope="module")
def courses(request: pytest.FixtureRequest) -> Iterator[dict[str, Course]]:
    """The courses of all chosen faults by the name of the fault, and of the run that is left in peace."""
    if missing := missing_commands():
        pytest.skip(f"Slurm is not installed ({', '.join(missing)}): apt-get install {PACKAGES}")
    chosen = {item.callspec.params["name"] for item in request.session.items if item.module is request.module}
    chains = [chain for chain in (each.only(chosen) for each in RUNNING) if chain.faults]
    with contextlib.ExitStack() as stack:

        def lab(num_nodes: int) -> SlurmCluster:
            cluster = SlurmCluster([f"--nodes={num_nodes}", "--cpus=2", "--gpus=0", f"--option={LOW}"])
            stack.callback(cluster.close)
            return cluster

        shared = lab(NUM_NODES)
        folder = shared.fresh_dir()
        write_spectra(folder / "spectra.h5")
        queue = Queue(shared)

        def submit(chain: Chain) -> Course:
            cluster = lab(2) if chain.own_lab else shared
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
                its_queue = Queue(cluster) if chain.own_lab else queue
                return Course(chain, FaultedRun(cluster, its_queue, folder, chain.run_name, **chain.changes))

        courses = {}
        for chain in [*chains, Chain()]:
            courses |= dict.fromkeys(chain.names or [LEFT_IN_PEACE], submit(chain))
        yield courses
        if keep := os.environ.get("KEEP_RUNS"):
            shutil.copytree(folder / "runs", keep, dirs_exist_ok=True)


@pytest.mark.parametrize("name", [name for chain in RUNNING for name in chain.names])
def test_the_run_ends_with_the_bits_of_one_left_in_peace(courses, name):
    course = courses[name]
    run, twin = course.wait(), courses[LEFT_IN_PEACE].wait()
    assert [step for step, _, _ in run.losses()] == list(range(1, NUM_STEPS + 1))
    assert run.losses() == twin.losses()
    assert run.evaluations() == twin.evaluations()
    assert run.weights() == twin.weights()
    assert run.processes() == {}
    assert len(course.followed[name]) <= 5
    assert ("finished" in course.followed[name]) == (name in ENDS_FINISHED), "it was hit before its end"
    for event in run.events("resumed"):
        assert event["steps_lost"] <= CHECKPOINT_EVERY
    print(f"{name}: {course.followed[name]} in {course.seconds[name]:.0f} s")
