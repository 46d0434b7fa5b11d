"""Before the first step: check within ten seconds that every node is fit and that all ranks see the same data.

A GPU that another job still uses, two ranks on one GPU, a node without the file system: each of these would otherwise
appear minutes later as a hang, or as an error of another rank. Every rank checks its own node, all ranks exchange what
they found, and all exit with the same table of problems.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import torch
import torch.distributed as dist

from hpctrain.checkpoint.whole import list_checkpoints
from hpctrain.distributed.group import gather_json
from hpctrain.distributed.world import World, node_name
from hpctrain.errors import NodeError, SiteError
from hpctrain.fulldisk import is_disk_full
from hpctrain.profile.files import matching_files
from hpctrain.rundir import RunDir

_LEAST_FREE_SHARE = 0.5
"""Smallest share of a GPU's memory that is free before we allocate any, unless another process uses the GPU."""

_PROBE = 1 << 20

_ANSWER_WITHIN_S = 8.0
"""Longest time that a file system or GPU may take to answer [s]; then it counts as hanging and would block the job."""


@dataclass
class RankReport:
    """What one rank found on its node.

    Parameters
    ----------
    rank : int
    node : str
        Slurm's name of the node, or the host's.
    device : str
        UUID of the GPU, or ``cpu``.
    free_gib, total_gib : float or None
        Memory of the GPU; None on a CPU.
    num_files : int
        Number of data files found.
    torch_version : str
    seconds : float
        Duration of the checks [s].
    problems : list of str
        Problems, each with its remedy.
    """

    rank: int
    node: str
    device: str = "cpu"
    free_gib: float | None = None
    total_gib: float | None = None
    num_files: int = 0
    torch_version: str = torch.__version__
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def preflight(
    world: World, device: torch.device, run: RunDir, patterns: list[str], ranks_per_gpu: int = 1
) -> list[RankReport]:
    """Check every node, and raise if one of them is not fit.

    Parameters
    ----------
    world : World
        World whose process group is open.
    device : torch.device
        Device of this rank.
    run : RunDir
        Run directory; every node must be able to write it.
    patterns : list of str
        ``data.files``; every node must be able to read the files that match.
    ranks_per_gpu : int
        Ranks that may share one GPU.

    Returns
    -------
    list of RankReport
        One per rank.

    Raises
    ------
    NodeError
        Some nodes are not fit; the message is a table of their problems.
    SiteError
        No node is fit.
    """
    started = time.perf_counter()
    report = RankReport(world.rank, node_name())
    looks = {
        "the GPU": functools.partial(_look_at_device, device),
        str(run.path): functools.partial(_look_at_run_directory, run),
        ", ".join(patterns): functools.partial(_look_at_data, patterns),
    }
    _look(report, looks, _ANSWER_WITHIN_S)
    report.seconds = round(time.perf_counter() - started, 3)
    reports = [RankReport(**found) for found in gather_json(world, asdict(report))]
    _compare(reports, ranks_per_gpu)
    if bad := bad_nodes(reports):
        if len(bad) == len({item.node for item in reports}):
            raise SiteError(format_reports(reports))
        raise NodeError(format_reports(reports), bad)
    _reduce_once(world, device)
    return reports


def bad_nodes(reports: list[RankReport]) -> list[str]:
    """Return the nodes that have a problem."""
    return sorted({report.node for report in reports if report.problems})


def format_reports(reports: list[RankReport]) -> str:
    """Return a table with one line per problem."""
    bad = bad_nodes(reports)
    lines = [f"pre-flight: {len(bad)} of {len({report.node for report in reports})} node(s) not fit: {', '.join(bad)}"]
    for report in reports:
        lines += [f"  {report.node}  rank {report.rank}  {report.device}  {problem}" for problem in report.problems]
    return "\n".join(lines)


def _look(report: RankReport, looks: Mapping[str, Callable[[RankReport], None]], within_s: float) -> None:
    """Run all checks side by side; report those that do not answer, such as a mount whose server is gone."""
    threads = {what: threading.Thread(target=look, args=(report,), daemon=True) for what, look in looks.items()}
    for thread in threads.values():
        thread.start()
    deadline = time.monotonic() + within_s
    for what, thread in threads.items():
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            report.problems.append(f"{what} did not answer within {within_s:.0f} s; does it hang?")


def _look_at_device(device: torch.device, report: RankReport) -> None:
    if device.type != "cuda":
        return
    try:
        free, total = torch.cuda.mem_get_info(device)
        report.device = str(torch.cuda.get_device_properties(device).uuid)
        report.free_gib, report.total_gib = round(free / 2**30, 2), round(total / 2**30, 2)
        product = torch.ones(64, 64, device=device) @ torch.ones(64, 64, device=device)
        if not bool((product == 64).all()):
            report.problems.append("the GPU computes a wrong product; report it to the administrators")
    except RuntimeError as error:
        report.problems.append(f"the GPU does not work: {str(error).splitlines()[0]}")
        return
    if free < _LEAST_FREE_SHARE * total:
        report.problems.append(
            f"only {report.free_gib} of {report.total_gib} GiB of the GPU are free: another process uses it "
            "(nvidia-smi on that node shows which)"
        )


def _look_at_run_directory(run: RunDir, report: RankReport) -> None:
    probe = run.logs / f".preflight-{report.rank:04d}"
    try:
        with open(probe, "wb") as stream:
            stream.write(b"\0" * _PROBE)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        # A run that has checkpoints makes room by removing older ones.
        if not (is_disk_full(error) and list_checkpoints(run)):
            report.problems.append(
                f"cannot write to {run.path}: {error.strerror}; is the file system mounted, or full?"
            )
    with contextlib.suppress(OSError):
        probe.unlink()


def _look_at_data(patterns: list[str], report: RankReport) -> None:
    paths = sorted({path for pattern in patterns for path in matching_files(pattern)})
    report.num_files = len(paths)
    for path in paths:
        try:
            with open(path, "rb") as stream:
                size = stream.seek(0, os.SEEK_END)
                for offset in (0, max(0, size - 1)):
                    stream.seek(offset)
                    stream.read(1)
        except OSError as error:
            report.problems.append(f"cannot read {path}: {error.strerror}; is the file system mounted on that node?")


def _compare(reports: list[RankReport], ranks_per_gpu: int) -> None:
    """Add the problems that appear only in a comparison of the ranks."""
    by_device: dict[tuple[str, str], list[int]] = {}
    for report in reports:
        by_device.setdefault((report.node, report.device), []).append(report.rank)
    for report in reports:
        sharing = by_device[report.node, report.device]
        if report.device != "cpu" and len(sharing) > ranks_per_gpu:
            report.problems.append(f"ranks {sharing} share one GPU; ask for as many GPUs as ranks")
        if report.num_files < max(other.num_files for other in reports):
            report.problems.append(
                f"sees {report.num_files} data files, other ranks see more; is the file system mounted on that node?"
            )
        if report.torch_version != reports[0].torch_version:
            report.problems.append(f"torch {report.torch_version}, but rank 0 has {reports[0].torch_version}")


def _reduce_once(world: World, device: torch.device) -> None:
    """Do one small reduction over the network that the gradients will use."""
    if world.world_size == 1:
        return
    total = torch.ones(1, device=device)
    try:
        dist.all_reduce(total)
        answer = int(total.item())
    except RuntimeError as error:
        raise SiteError(
            f"pre-flight: the first reduction over {world.world_size} ranks failed: {str(error).splitlines()[0]}\n"
            "  check NCCL_SOCKET_IFNAME and NCCL_IB_HCA in the site file; NCCL_DEBUG=INFO prints what NCCL tried"
        ) from error
    if answer != world.world_size:
        raise SiteError(
            f"pre-flight: the sum of 1 over {world.world_size} ranks is {answer}; report it to the administrators"
        )
