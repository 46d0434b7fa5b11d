"""Rules about nodes, network, file systems and the queue."""

from __future__ import annotations

from collections import Counter

from hpctrain.advice.advice import CLUSTER, FAILURE, SPEED, Advice, Change
from hpctrain.advice.summary import RunSummary, percent, share
from hpctrain.metrics.events import (
    CheckpointFailed,
    CheckpointRejected,
    CheckpointSaved,
    Failed,
    Finished,
    MadeRoom,
    MirrorFailed,
    RecordsLost,
    Started,
)
from hpctrain.words import format_duration

_FULL = r"No space left on device|Disk quota exceeded|ENOSPC|EDQUOT|disk of the run directory is full"
_NCCL = (
    r"NCCL (error|WARN)|nccl(System|Internal|Remote)Error|Watchdog caught collective|ProcessGroupNCCL.*(timeout|abort)"
)
_NETWORK = (
    r"Connection refused|Connection timed out|No route to host|Network is unreachable|Name or service not known|"
    r"Connection reset by peer|Connection closed by peer|failed to connect to .*port"
)
_HARDWARE = (
    r"\bXid\b|uncorrectable ECC|ECC error|fallen off the bus|NVLink.*(error|fail)|"
    r"CUDA error: (unspecified launch|an illegal|hardware)"
)
_FILES = r"Stale file handle|Input/output error|Transport endpoint is not connected|Remote I/O error"
_SOFTWARE = (
    r"ModuleNotFoundError|no kernel image is available|GLIBC_\S+' not found|CUDA driver version is insufficient|"
    r"undefined symbol"
)
_TIME = r"DUE TO TIME LIMIT|TimeLimitExceeded|walltime .* exceeded"


def failing_node(run: RunSummary) -> Advice | None:
    """One node failed again and again."""
    bad = sorted(node for node, strikes in run.strikes.items() if strikes >= 2)
    if not bad:
        return None
    counts = ", ".join(f"{node} {run.strikes[node]}" for node in bad)
    return Advice(
        CLUSTER,
        f"failures count against these nodes within a day: {counts}",
        "a node with a bad GPU, disk or network ends each attempt that gets it",
        "attempts on other nodes",
        (Change("launch.exclude", sorted({*run.get("launch.exclude", []), *bad})),),
        "tell the administrators; the next attempts of this run avoid these nodes by themselves for a day",
    )


def attempts_end_on_one_node(run: RunSummary) -> Advice | None:
    """Attempts that were lost have one node in common that the good ones do not have."""
    hosts = {int(lease.get("attempt") or 0): _names(lease.get("hosts")) for lease in run.leases}
    for started in run.all_of(Started):
        hosts.setdefault(started.attempt, _names(started.hosts))
    outcomes = dict(zip(sorted(hosts), (ended.exit_code for ended in run.ended), strict=False))
    lost = [number for number, code in outcomes.items() if code in (76, 77) or code > 128]
    good = {node for number, code in outcomes.items() if number not in lost for node in hosts[number]}
    counted = Counter(node for number in lost for node in hosts[number] - good)
    known = {node for node, strikes in run.strikes.items() if strikes >= 2}
    node, times = next(iter(counted.most_common(1)), ("", 0))
    if times < 2 or node in known or len({name for names in hosts.values() for name in names}) < 2:
        return None
    return Advice(
        CLUSTER,
        f"{times} of {len(lost)} lost attempts ran on {node}, and none of the others did",
        "chance would spread the losses over the nodes",
        "attempts on other nodes",
        (Change("launch.exclude", sorted({*run.get("launch.exclude", []), node})),),
        "tell the administrators",
    )


def _names(hosts: object) -> set[str]:
    names = hosts if isinstance(hosts, str) else ",".join(map(str, hosts)) if isinstance(hosts, list | tuple) else ""
    return {name.strip() for name in names.split(",") if name.strip()}


def nccl_error(run: RunSummary) -> Advice | None:
    """NCCL reports errors between GPUs."""
    line = run.in_log(_NCCL)
    if not line or run.newest(Finished):
        return None
    return Advice(
        CLUSTER,
        f"NCCL failed: {line}",
        "a rank died, or the GPUs of two nodes cannot reach each other over the network that NCCL chose",
        "attempts that stay together",
        (),
        "look in the log of every rank for the first error; if it is the network, set NCCL_SOCKET_IFNAME and "
        "NCCL_IB_HCA in the site file, and run once with NCCL_DEBUG=INFO",
    )


def network_error(run: RunSummary) -> Advice | None:
    """Nodes do not reach each other."""
    line = run.in_log(_NETWORK)
    if not line or run.newest(Finished) or run.in_log(_NCCL):
        return None
    return Advice(
        CLUSTER,
        f"a connection failed: {line}",
        "ranks meet at a port of the first node; a firewall, a wrong name or a lost node is in the way",
        "ranks that connect",
        (),
        "try the run on one node; ask the administrators which interface connects nodes (GLOO_SOCKET_IFNAME)",
    )


def broken_hardware(run: RunSummary) -> Advice | None:
    """A GPU or its driver reports errors."""
    line = run.in_log(_HARDWARE)
    if not line or run.newest(Finished):
        return None
    return Advice(
        CLUSTER,
        f"a GPU failed: {line}",
        "memory errors and lost links come from the hardware, not from the run",
        "attempts on healthy GPUs",
        (),
        "exclude the node (launch.exclude) and tell the administrators",
    )


def full_disk(run: RunSummary) -> Advice | None:
    """A disk or a quota is full."""
    failed = [event for event in run.all_of(CheckpointFailed) if run.step and _is_full(event.error or "")]
    room = [event for event in [*run.all_of(MadeRoom), *run.all_of(CheckpointSaved)] if event.made_room]
    lost = sum(event.records or 0 for event in run.all_of(RecordsLost))
    line = run.in_log(_FULL)
    if not (failed or room or lost or line):
        return None
    seen = "; ".join(
        filter(
            None,
            [
                f"{len(failed)} checkpoints could not be written" if failed else "",
                f"{sum(len(event.made_room or ()) for event in room)} older ones had to be removed" if room else "",
                f"{lost} records were lost" if lost else "",
                line,
            ],
        )
    )
    size = max((saved.bytes or 0 for saved in run.all_of(CheckpointSaved)), default=0)
    keep = int(run.number("checkpoint.keep_last", 5))
    gain = f"{(keep - 1) * size / 2**30:.2g} GiB less on the disk" if keep > 1 else "room for the next checkpoint"
    changes = [Change("checkpoint.keep_last", 1)] if keep > 1 else []
    if run.get("checkpoint.keep_every_steps") is not None:
        changes.append(Change("checkpoint.keep_every_steps", None))
    return Advice(
        FAILURE,
        f"the disk or the quota of the run is full: {seen}",
        "checkpoints and records have nowhere to go",
        gain,
        tuple(changes),
        "free room, or set launch.runs_dir to a file system with more of it (hpctrain list shows sizes)",
    )


def _is_full(error: str) -> bool:
    return any(words in error for words in ("No space left", "quota", "Errno 28", "Errno 122"))


def file_system_error(run: RunSummary) -> Advice | None:
    """The file system fails."""
    line = run.in_log(_FILES)
    if not line or run.newest(Finished):
        return None
    return Advice(
        CLUSTER,
        f"a file system failed: {line}",
        "the server of a shared file system restarted or lost a node",
        "reads that do not depend on the shared file system",
        (),
        "start the run again, it resumes; stage the data on the disks of the nodes (data.stage) if it repeats",
    )


def damaged_checkpoints(run: RunSummary) -> Advice | None:
    """Checkpoints were damaged when they were read."""
    rejected = run.all_of(CheckpointRejected)
    if not rejected:
        return None
    return Advice(
        CLUSTER,
        f"{len(rejected)} checkpoints were damaged ({rejected[-1].reason})",
        "a file system that lost power, or a hand, changed files that had been whole",
        "an older whole checkpoint to return to",
        (Change("checkpoint.keep_last", max(5, int(run.number("checkpoint.keep_last", 5)))),),
        "ask the administrators about the file system; checkpoint.mirror keeps a copy elsewhere",
    )


def mirror_fails(run: RunSummary) -> Advice | None:
    """Copies to the mirror fail."""
    failed = run.all_of(MirrorFailed)
    if not failed:
        return None
    return Advice(
        CLUSTER,
        f"the mirror did not get {len(failed)} checkpoints ({(failed[-1].error or '')[:160]})",
        "the network or the credentials of the store are in the way",
        "a second copy of the run",
        (),
        "try the address of checkpoint.mirror from a compute node",
    )


def wrong_software(run: RunSummary) -> Advice | None:
    """The environment of the nodes does not fit."""
    line, failed = run.in_log(_SOFTWARE), run.newest(Failed)
    if not line or run.newest(Finished) or (run.step and not failed):
        return None
    return Advice(
        FAILURE,
        f"the environment of the node does not fit: {line}",
        "the node has other modules, another driver or another Python than the login node",
        "a run that starts",
        (),
        "load the modules in the site file, or install torch for the driver of the nodes",
    )


def time_limit_hits(run: RunSummary) -> Advice | None:
    """The time limit ended an attempt before it had saved."""
    line = run.in_log(_TIME)
    if not line or run.newest(Finished):
        return None
    lead = int(run.number("launch.signal_lead_s", 180))
    slowest = max((saved.seconds or 0.0 for saved in run.all_of(CheckpointSaved)), default=0.0)
    return Advice(
        CLUSTER,
        f"the time limit ended an attempt: {line}; a checkpoint took up to {slowest:.0f} s, the warning "
        f"comes {lead} s before the end",
        "the attempt had not saved and left when its time was over",
        "no steps lost at the time limit",
        (Change("launch.signal_lead_s", int(max(2 * lead, 3 * slowest, 60))),),
    )


def no_progress(run: RunSummary) -> Advice | None:
    """Attempts end before they reach a checkpoint."""
    stuck = [ended for ended in run.ended if ended.followed in ("no-progress", "too-many-attempts")]
    if not stuck or run.newest(Finished):
        return None
    every = int(run.number("checkpoint.every_steps", 1000))
    return Advice(
        FAILURE,
        f"the run was given up after {len(run.ended)} attempts ({stuck[-1].followed.replace('-', ' ')}), "
        f"the last with exit code {stuck[-1].exit_code}",
        "no attempt reached a checkpoint that was newer than the one it began with",
        "attempts that get further",
        (Change("checkpoint.every_steps", max(1, every // 10)),),
        "look at the end of the log: `hpctrain logs` shows why they ended",
    )


def lost_ranks(run: RunSummary) -> Advice | None:
    """Ranks hang or lose each other again and again."""
    lost = [ended for ended in run.ended if ended.exit_code == 76]
    if len(lost) < 2 or run.strikes or run.in_log(_NCCL):
        return None
    return Advice(
        CLUSTER,
        f"{len(lost)} of {len(run.ended)} attempts ended with exit code 76",
        "a rank hung or died, and the others could not go on without it",
        "attempts that stay together",
        (),
        "find the rank that wrote last or nothing (hpctrain logs --rank N); if a file system stalls, a larger "
        "monitor.hang_timeout_s lets it recover",
    )


def long_waits(run: RunSummary) -> Advice | None:
    """The run spends more time in the queue than on nodes."""
    begins = sorted(float(lease.get("started_at") or 0.0) for lease in run.leases if lease.get("started_at"))
    if not begins:
        return None
    ends = [ended.time_s for ended in run.ended]
    waits = [begins[0] - run.submitted_s] if run.submitted_s else []
    waits += [begin - max(before) for begin in begins[1:] if (before := [end for end in ends if end <= begin])]
    waited = sum(max(0.0, wait) for wait in waits)
    part = share(waited, waited + run.seconds)
    if waited < 3600 or part < 0.5:
        return None
    changes = () if run.get("launch.slices") else (Change("launch.slices", {"shortest": "00:45:00"}),)
    return Advice(
        SPEED,
        f"the run waited {format_duration(waited)} in the queue before {len(waits)} attempts, "
        f"{percent(part)} of the time since it was submitted",
        "a job of many hours or nodes waits until all of them are free at once",
        "starts in the holes of the queue, in shorter attempts",
        changes,
        "" if changes else "ask for fewer nodes, or another partition",
    )
