"""The process group: NCCL between GPUs, Gloo between CPUs or on a shared GPU, and none for a rank that is alone.

Rank 0 binds a free port and publishes it in the run directory, which all ranks share. On a shared node, a port computed
from the job id would sooner or later be in use by somebody else.
"""

from __future__ import annotations

import datetime
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from hpctrain.distributed.rendezvous import TIMEOUT_S, Rendezvous, unreachable
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.watchdog import START_UP_S
from hpctrain.distributed.world import World, main_address
from hpctrain.errors import RanksLostError, SiteError
from hpctrain.rundir import RunDir

_NCCL = {
    # A communicator that fails ends its process, without waiting for an abort that may hang itself. The batch script
    # sees that a rank died and starts the job again. This is torch's default today, but not in every version.
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "3",
    # When a collective times out, the logs show the operation that each rank was in.
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
    "TORCH_FR_BUFFER_SIZE": "2000",
}
"""Settings of NCCL's error handling; the environment, and so the site file, has precedence."""

_MANY_RANKS = 256
"""From more ranks on, Gloo connects those that talk to each other, and not each with each."""
_OTHER_FILES = 1024
"""Files that a process opens besides the connections to the other ranks."""
_DAY_S = 86400.0

_JETSON = Path("/dev/nvmap")
"""Device file that only the driver of a Jetson makes."""


_joined: list[dist.ProcessGroup] = []
"""Process groups, kept until this process ends. The destructor of a Gloo group holds the interpreter's lock and waits
for a thread that may need this lock to release a tensor (torch 2.13). So finished ranks sometimes hung for ever."""


def why_no_gpu() -> str:
    """Return why this process sees no GPU, as far as this can be found out."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is a build without CUDA"
    if visible is not None and not visible.strip():
        return "CUDA_VISIBLE_DEVICES is empty"
    return "no driver, no device, or none given to this job" + (f" (CUDA_VISIBLE_DEVICES={visible})" if visible else "")


def choose_device(world: World, wish: str, ranks_per_gpu: int = 1) -> torch.device:
    """Return this rank's device, and make it the current one.

    Parameters
    ----------
    world : World
        The local rank chooses among the GPUs this process can see.
    wish : str
        ``train.device`` of the profile: ``auto``, ``cuda`` or ``cpu``.
    ranks_per_gpu : int
        Ranks that share one GPU.

    Raises
    ------
    SiteError
        The profile requires a GPU and there is none, or the node has more ranks than visible GPUs.
    """
    visible = 0 if wish == "cpu" else torch.cuda.device_count()
    if visible == 0:
        if wish == "cuda":
            raise SiteError(
                "train.device: 'cuda', but this process sees no GPU "
                f"(CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}, torch {torch.__version__}); "
                "ask for GPUs with launch.gpus_per_node, or install a CUDA build of torch"
            )
        return torch.device("cpu")
    # With --gpus-per-task each task sees only its own GPU, and it is number 0 whatever the local rank.
    has_own = visible == 1 and world.local_world_size > 1 and _one_gpu_per_task()
    index = 0 if has_own else world.local_rank // ranks_per_gpu
    if index >= visible:
        raise SiteError(
            f"rank {world.rank}: local rank {world.local_rank} of {world.local_world_size}, but only {visible} GPU(s) "
            "are visible; ask for as many GPUs as ranks (launch.gpus_per_node), or leave launch.ranks_per_node out"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def use_expandable_segments() -> None:
    """Let torch's allocator grow its blocks of GPU memory; call this before the first tensor on a GPU.

    Blocks of fixed size leave holes: on an H100, convolutions in bf16 held twice the memory that their tensors took.
    A setting in the environment, and so in the site file, has precedence. A Jetson keeps torch's default.
    """
    is_set = {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"} & set(os.environ)
    if not is_set and not _JETSON.exists():
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"


def be_deterministic(device: torch.device) -> None:
    """Make a GPU use only algorithms that give the same bits each time; CPUs do so by default.

    An operation without such an algorithm only warns: a run that is exact up to rounding is better than none.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time and hides nothing here


def _one_gpu_per_task() -> bool:
    return "SLURM_GPUS_PER_TASK" in os.environ or "SLURM_TRES_PER_TASK" in os.environ


def collective_timeout_s(hang_timeout_s: float | None) -> float:
    """Return how long a collective may wait before the library ends the process [s].

    This limit is longer than the watchdog's, which ends the process first and writes the stacks. A rank may also wait
    while another one compiles its network, so the watchdog's extra time for the start is included.
    """
    return _DAY_S if hang_timeout_s is None else hang_timeout_s + 2 * START_UP_S


def open_group(
    world: World,
    device: torch.device,
    run: RunDir,
    hang_timeout_s: float | None,
    stop: StopRequest,
    rendezvous_timeout_s: float = TIMEOUT_S,
    ranks_per_gpu: int = 1,
) -> None:
    """Join the process group of the job; does nothing for a rank that is alone.

    While this rank waits for the others, it may also end as :class:`~hpctrain.distributed.rendezvous.Rendezvous` says.

    Parameters
    ----------
    world : World
    device : torch.device
        NCCL joins GPUs; small numbers of the host go through Gloo.
    run : RunDir
        Run directory in which the ranks find each other, and in which NCCL writes its trace when it fails.
    hang_timeout_s : float or None
        ``monitor.hang_timeout_s`` [s].
    stop : StopRequest
        Stop request of this process; this rank obeys it while it waits for the others.
    rendezvous_timeout_s : float
        How long ranks wait for each other [s].
    ranks_per_gpu : int
        Ranks that share one GPU; NCCL refuses more than one, so their sums go through the host with Gloo.

    Raises
    ------
    SiteError
        The ranks cannot connect.
    RanksLostError
        Another rank ended meanwhile; another attempt may succeed.
    """
    if world.world_size == 1:
        return
    for name, value in {**_NCCL, "TORCH_FR_DUMP_TEMP_FILE": str(run.logs / "nccl-trace-rank-")}.items():
        os.environ.setdefault(name, value)
    prepare_for(world.world_size)
    backend = "cuda:nccl,cpu:gloo" if device.type == "cuda" and ranks_per_gpu == 1 else "gloo"
    with Rendezvous(world, run, stop, rendezvous_timeout_s) as meeting:
        try:
            dist.init_process_group(
                backend,
                store=_open_store(world, meeting),
                rank=world.rank,
                world_size=world.world_size,
                timeout=datetime.timedelta(seconds=collective_timeout_s(hang_timeout_s)),
            )
            barrier(world)  # with few connections a rank gets here before the others have come
        except (RuntimeError, TimeoutError, OSError) as error:
            is_closed = any(word in str(error) for word in _CLOSED) and is_lost_peer(error)
            if (lost := meeting.lost_rank()) is not None or is_closed:
                raise RanksLostError(f"{lost or 'another rank'} ended before all ranks had started: {error}") from error
            raise SiteError(unreachable(world, f"no process group: {error}")) from error
        _joined.append(dist.group.WORLD)


def prepare_for(num_ranks: int) -> None:
    """Let Gloo and the store live with many ranks; what the environment says has precedence.

    With a connection of each rank to each other, N ranks ask the store N² times for N addresses: 4,096 ranks would move
    half a terabyte through rank 0 before the first step. Gloo's sums need log2(N) connections of a rank. Rank 0
    serves the store, so it has a connection of every rank in any case.
    """
    if num_ranks <= _MANY_RANKS:
        return
    os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * num_ranks + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _open_store(world: World, meeting: Rendezvous) -> dist.Store:
    timeout = datetime.timedelta(seconds=_DAY_S)  # the rendezvous has a time limit of its own
    if "MASTER_ADDR" in os.environ and "MASTER_PORT" in os.environ and world.launcher == "torchrun":
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        # torchrun's agent serves the store itself; with any other launcher rank 0 serves it.
        is_host = world.is_main and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        store = dist.TCPStore(address, port, is_master=is_host, timeout=timeout)
        return dist.PrefixStore(f"hpctrain/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    if world.is_main:
        address = main_address()
        store = dist.TCPStore(address, 0, is_master=True, timeout=timeout, wait_for_workers=False)
        meeting.publish_address(address, store.port)
        return store
    address, port = meeting.wait_for_address()
    return dist.TCPStore(address, port, is_master=False, timeout=timeout)


def barrier(world: World) -> None:
    """Wait for all ranks, on the CPU side; does nothing for a rank that is alone."""
    if world.world_size > 1:
        dist.all_reduce(torch.zeros(1))  # CPU tensor: Gloo, so no GPU stream is touched


def broadcast_number(world: World, value: int) -> int:
    """Return rank 0's `value` on every rank."""
    if world.world_size == 1:
        return value
    number = torch.tensor([value], dtype=torch.int64)
    dist.broadcast(number, src=0)
    return int(number.item())


def gather_json(world: World, value: Any) -> list[Any]:
    """Return the values of all ranks, in the order of ranks, on every rank.

    The values travel as JSON, so that no rank unpickles data it receives.
    """
    if world.world_size == 1:
        return [value]
    text = json.dumps(value).encode()
    longest = torch.tensor([len(text)])
    dist.all_reduce(longest, op=dist.ReduceOp.MAX)
    padded = torch.frombuffer(bytearray(text.ljust(int(longest))), dtype=torch.uint8)
    gathered = [torch.empty_like(padded) for _ in range(world.world_size)]
    dist.all_gather(gathered, padded)
    return [json.loads(bytes(item.numpy())) for item in gathered]


_CLOSED = ("Connection was likely closed", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""Error texts of a connection whose other end has died; a connection that was never made has other texts."""


def is_lost_peer(error: BaseException) -> bool:
    """Return whether an exception means that another rank is gone, and not that this rank has a fault.

    A killed rank closes its connections; the other ranks get a RuntimeError of Gloo or NCCL in their next collective.
    """
    if isinstance(error, (dist.DistBackendError, dist.DistNetworkError)):
        return True
    words = (*_CLOSED, "gloo/", "NCCL communicator")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def close_group(world: World) -> None:
    """Leave the group together with all ranks; a rank that exits early would end the store that the others use."""
    if world.world_size > 1 and dist.is_initialized():
        barrier(world)
        dist.destroy_process_group()


def leave(exit_code: int) -> None:
    """End this process without the interpreter's clean-up.

    With Gloo, torch 2.13 aborts in about one of three normal exits after ``destroy_process_group`` ("terminate called
    without an active exception"), which turns a finished job into a failed one under ``--kill-on-bad-exit``.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
