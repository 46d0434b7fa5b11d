"""The rank of this process in the job; only this module reads it, and never a shell.

``torchrun`` and the local launcher set ``RANK``, ``WORLD_SIZE`` and related variables; ``srun`` sets ``SLURM_PROCID``
and related ones for each task. A process with neither is the only rank. A shell on the batch host would expand
``$SLURM_PROCID`` once for all ranks, so these variables never appear on a command line.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from hpctrain.errors import SiteError

_BATCH_STEP_ID = "4294967291"
"""Step id of a batch shell (SLURM_BATCH_SCRIPT). It has SLURM_PROCID=0 too, but it is no task of a step."""


@dataclass(frozen=True)
class World:
    """The rank of one process in the job.

    Parameters
    ----------
    rank, world_size : int
        Number of this process, and how many there are.
    local_rank, local_world_size : int
        The same on this node; the local rank chooses the GPU.
    num_nodes : int
        Nodes of the job.
    launcher : str
        Source of the variables: ``torchrun``, ``slurm`` or ``alone``.
    job_id : str or None
        Slurm job id, ``<array job>_<task>`` for an element of an array; ``local-<pid>`` under the local launcher.
    restart_count : int
        Number of times that Slurm, or the local launcher, has restarted this job.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    num_nodes: int = 1
    launcher: str = "alone"
    job_id: str | None = None
    restart_count: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this rank writes the files that only one rank writes."""
        return self.rank == 0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> World:
        """Read the world from the variables of torchrun, else of srun, else return a world of one process.

        Raises
        ------
        SiteError
            A variable is missing or not a number, or a rank does not fit the world size.
        """
        job_id = environment.get("SLURM_JOB_ID") or environment.get("HPCTRAIN_JOB_ID")
        if "SLURM_ARRAY_JOB_ID" in environment:
            job_id = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment.get('SLURM_ARRAY_TASK_ID', '0')}"
        restarts = _number(environment, "HPCTRAIN_RESTART_COUNT", 0)
        shared = {"job_id": job_id, "restart_count": _number(environment, "SLURM_RESTART_COUNT", restarts)}
        if "RANK" in environment or "WORLD_SIZE" in environment:
            world_size = _number(environment, "WORLD_SIZE")
            local_world_size = _number(environment, "LOCAL_WORLD_SIZE", world_size)
            world = cls(
                rank=_number(environment, "RANK"),
                world_size=world_size,
                local_rank=_number(environment, "LOCAL_RANK", 0),
                local_world_size=local_world_size,
                num_nodes=max(1, world_size // local_world_size),
                launcher="torchrun",
                **shared,
            )
        elif "SLURM_PROCID" in environment and environment.get("SLURM_STEP_ID", "") not in ("", _BATCH_STEP_ID):
            world = cls(
                rank=_number(environment, "SLURM_PROCID"),
                world_size=_number(environment, "SLURM_NTASKS"),
                local_rank=_number(environment, "SLURM_LOCALID"),
                local_world_size=_tasks_on_this_node(environment),
                num_nodes=_number(environment, "SLURM_STEP_NUM_NODES", _number(environment, "SLURM_NNODES", 1)),
                launcher="slurm",
                **shared,
            )
        else:
            world = cls(**shared)
        if not 0 <= world.rank < world.world_size or world.local_rank < 0:
            raise SiteError(f"environment: rank {world.rank} does not fit a world of {world.world_size} ({world})")
        return world


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "")
    if not text and default is not None:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise SiteError(f"environment: {name}={text!r} is not a number; start ranks with srun or torchrun") from error


def _tasks_on_this_node(environment: Mapping[str, str]) -> int:
    """Return this node's number of tasks from ``SLURM_STEP_TASKS_PER_NODE``, such as ``4(x2),3``."""
    counts: list[int] = []
    text = environment.get("SLURM_STEP_TASKS_PER_NODE", environment.get("SLURM_TASKS_PER_NODE", "1"))
    for count, repeat in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(repeat or 1)
    node = _number(environment, "SLURM_NODEID", 0)
    return counts[node] if node < len(counts) else counts[-1] if counts else 1


def node_name() -> str:
    """Return Slurm's name of this node, or its host name."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def main_address(environment: Mapping[str, str] = os.environ) -> str:
    """Return an address of rank 0's node that the other nodes can reach.

    Node names need not resolve, so this asks Slurm for the node's address; outside Slurm all ranks are on this host.

    Returns
    -------
    str
        ``MASTER_ADDR`` if a launcher set it, else Slurm's address of the first node, else 127.0.0.1.
    """
    if environment.get("MASTER_ADDR"):
        return environment["MASTER_ADDR"]
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST")
    if not nodes:
        return "127.0.0.1"
    first = _first_line("scontrol", "show", "hostnames", nodes) or socket.gethostname()
    address = _first_line("sinfo", "-h", "-n", first, "-o", "%o") or first
    return address


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.split("\n", 1)[0].strip() if done.returncode == 0 else ""
