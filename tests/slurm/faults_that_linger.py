"""What goes wrong and does not die: a rank that hangs, a node that is cut off, a node that is unfit.

Each function waits for its moment in the attempt that is under way, does the harm, and returns when that attempt has
ended.
"""

from __future__ import annotations

import re
import resource
import signal

from faulted_run import FaultedRun
from node_processes import daemons, environment_of, is_at_work, send


def hang(run: FaultedRun) -> None:
    run.wait_for_steps(25)
    run.signal(signal.SIGSTOP, 1)
    run.wait_for_end_of_attempt()
    stacks = run.log("stacks-rank-0000.txt")
    assert re.search(r"nothing happened for \d+ s \(rank 0 at step \d+, training\)", stacks)
    assert re.search(r'hpctrain/train/\w+\.py", line \d+ in \w+\n(.*\n)*.*loop\.py", line \d+ in train\n', stacks)


def zombie(run: FaultedRun) -> None:
    """A node is cut off: its ranks live on and write, beside those of the job that Slurm runs again elsewhere.

    They beat too rarely to notice the other attempt by that; it is their next checkpoint that is refused.
    """
    run.wait_for_steps(25)
    cut_off = run.run.newest_attempt()
    node = run.nodes()[0]
    ranks = [run.rank_pid(0), run.rank_pid(1)]
    its_daemons = daemons(run.cluster, node)
    send(its_daemons, signal.SIGSTOP)
    try:
        with run.slowed(ranks, go_s=0.05, stop_s=1.95):
            run.wait_until(lambda: run.last_record().get("attempt", 0) > cut_off, "the job to run again")
            assert all(is_at_work(pid) for pid in ranks)
        run.wait_until(lambda: not any(is_at_work(pid) for pid in ranks), "the zombies to leave by themselves")
    finally:
        send(its_daemons, signal.SIGCONT)
    run.wait_until_finished()
    assert f"attempt {cut_off} was replaced by attempt {cut_off + 1}; this one may not save" in run.log(
        "*.0-rank-0*.log"
    )
    assert run.followed()[-1] == "finished"
    assert "requeued" not in run.followed()
    run.wait_until(lambda: not run.processes(), "what is left on the node to be ended")


def unfit_node(run: FaultedRun) -> None:
    """Whatever one rank writes to a file fails, as on a node whose file system is read-only."""
    pid = run.rank_pid(1)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))
    node = environment_of(pid)["SLURMD_NODENAME"]
    run.wait_for_end_of_attempt()
    assert [(ended.exit_code, ended.followed) for ended in run.ended()] == [(77, "requeued")]
    table = run.log("*-rank-0000.log")
    assert f"pre-flight: 1 of 2 node(s) not fit: {node}\n" in table
    assert re.search(rf"  {node}  rank 1  cpu  cannot write to {run.run.path}: File too large", table)
    run.wait_for_steps(1)
    assert node in run.excluded_nodes()
    assert node not in run.events("started")[-1]["hosts"]
