"""How ranks find each other: address, port, rendezvous, NCCL."""

from __future__ import annotations

import re

from hpctrain.lint.launches import Launch
from hpctrain.lint.rule import Hits, rule
from hpctrain.lint.script import BatchScript
from hpctrain.lint.words import Word

GROUP = "How ranks find each other"
_PORTS = re.compile(r"(MASTER_PORT|RDZV_PORT|MAIN_PROCESS_PORT|PORT|master_port)$")
_PORT_OPTION = re.compile(r"--(?:master[_-]port|main_process_port|rdzv[_-]endpoint)[= ]\"?(?:[^ \"]*:)?(\S+)")
_TORCHRUN = re.compile(r"(?:^|/)torchrun\b|torch\.distributed\.(?:run|launch)\b")


def settings(script: BatchScript, pattern: str) -> list[tuple[int, str, Word]]:
    """Return line, name and value of each assignment of variables whose names match a pattern."""
    found = []
    for command in script.commands:
        pairs = list(command.assignments.items())
        if command.name in ("export", "declare", "env", "local", "readonly"):
            pairs += [pair for word in command.words[1:] if (pair := word.assignment)]
        found += [(command.line, name, word) for name, word in pairs if re.fullmatch(pattern, name)]
    return found


def _ports(script: BatchScript) -> list[tuple[int, str]]:
    found = [(line, word.value) for line, name, word in settings(script, r"\w*") if _PORTS.search(name)]
    for each in script.trainings:
        words = " ".join(word.value for word in each.program)
        found += [(each.command.line, value.strip('"')) for value in _PORT_OPTION.findall(words)]
    return found


@rule(
    "fixed-port",
    GROUP,
    "warning",
    "a fixed port on a node that may be shared",
    """Two jobs on one node, or the rest of an earlier attempt, want the same port: "Address already in use", or ranks
    that join the wrong job. Many scripts have the same default, 29500.""",
    """Let rank 0 take a free port and tell the others over the rendezvous: `torchrun --rdzv-backend=c10d
    --rdzv-endpoint=HOST:0` on one node (`--standalone`). For several nodes ask for whole nodes (`--exclusive`).""",
)
def fixed_port(script: BatchScript) -> Hits:
    if script.option("exclusive") or (not script.trainings and not script.steps):
        return
    for line, value in _ports(script):
        if re.fullmatch(r"\d{3,5}", value) and value != "0":
            yield line, f"port {value}"
            return


@rule(
    "port-from-job-id",
    GROUP,
    "note",
    "a port made from the job id",
    """Two jobs whose ids have the same remainder may meet on a node, the port may belong to another program (the
    kernel gives 32768 to 60999 to anybody), and a requeued job asks for the same port while the ranks before it
    still hold it.""",
    """Let rank 0 bind port 0 and publish what it got, or ask for whole nodes (`--exclusive`) and try again if the port
    is taken.""",
)
def port_from_job_id(script: BatchScript) -> Hits:
    for line, value in _ports(script):
        if re.search(r"SLURM_(?:ARRAY_)?JOB_?ID", value):
            yield line, f"{value[:60]!r}"


@rule(
    "hostname-as-master",
    GROUP,
    "warning",
    "the host name as the address of rank 0",
    """`hostname` gives what the first node calls itself, which need not resolve on the others, or may resolve to
    127.0.1.1; and it differs if each rank runs the line. Node names of Slurm need not resolve either (measured).""",
    """`MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)`; if that name does not resolve, its
    address: `sinfo -h -n "$MASTER_ADDR" -o %o`.""",
)
def hostname_as_master(script: BatchScript) -> Hits:
    for line, name, word in settings(script, r"\w*(MASTER|HEAD|RDZV)_?(ADDR|HOST|IP|NODE)\w*|master_addr|head_node"):
        own = re.search(r"[($`]\s*(/bin/)?hostname\b(?!s)|\$\{?(HOSTNAME|SLURMD_NODENAME)\b", word.value)
        if own and (script.nodes or 2) > 1:
            yield line, f"{name}={word.value[:40]}"


@rule(
    "localhost-as-master",
    GROUP,
    "error",
    "localhost as the address of rank 0 of several nodes",
    """On every other node localhost is that node itself: its ranks wait for a rank 0 that is elsewhere, until the
    timeout.""",
    '`MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)`.',
)
def localhost_as_master(script: BatchScript) -> Hits:
    if (script.nodes or 1) < 2:
        return
    local = r"(localhost|127\.0\.\d\.\d)"
    for line, name, word in settings(script, r"\w*MASTER_?(ADDR|HOST|IP)\w*"):
        if re.match(local, word.value):
            yield line, f"{name}={word.value}"
    for each in script.trainings:
        words = script.resolved(" ".join(word.value for word in each.program))
        if found := re.search(rf"--(?:rdzv[_-]endpoint|master[_-]addr|main_process_ip)[= ]\"?{local}", words):
            yield each.command.line, found[0]


@rule(
    "no-rendezvous",
    GROUP,
    "error",
    "torchrun for several nodes without a rendezvous",
    """Without --rdzv-endpoint or --master-addr each torchrun waits at its own localhost:29500 (and --standalone means
    one node): every node trains alone, or waits for ever.""",
    """`srun torchrun --nnodes="$SLURM_NNODES" --nproc-per-node=GPUS --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID"
    --rdzv-endpoint="$MASTER_ADDR:29500" ...`.""",
)
def no_rendezvous(script: BatchScript) -> Hits:
    for each in script.trainings:
        words = script.resolved(" ".join(word.value for word in each.program))
        if not _TORCHRUN.search(words) or _is_one_node(script, each, words):
            continue
        standalone = "--standalone" in words
        named = re.search(r"rdzv[_-]endpoint|master[_-]addr|rdzv[_-]conf", words + _defaults(script))
        perhaps = re.search(r"\$\{?\w*(ARGS|OPTS|FLAGS)", words)  # a variable that is set elsewhere may name it
        if standalone or not (named or perhaps):
            yield each.command.line, "torchrun --standalone" if standalone else "torchrun without --rdzv-endpoint"


def _is_one_node(script: BatchScript, launch: Launch, words: str) -> bool:
    nodes = launch.srun.get("nodes", "")
    found = re.search(r"--nnodes[= ](\d+)(?:[ ]|$)", words)
    given = int(nodes) if nodes.isdecimal() else int(found[1]) if found else script.nodes
    return (given or 1) < 2


def _defaults(script: BatchScript) -> str:
    return "rdzv_endpoint" if {"PET_RDZV_ENDPOINT", "PET_MASTER_ADDR"} & script.assigned.keys() else ""


@rule(
    "no-network-interface",
    GROUP,
    "note",
    "several nodes, and NCCL chooses the network",
    """NCCL and Gloo take the first interface that they find, which on some nodes is a management network or a bridge
    of containers: the job hangs at the start, or is slow.""",
    """If it hangs: `export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0` with the name of your network (`ip link` on
    a node).""",
)
def no_network_interface(script: BatchScript) -> Hits:
    option = script.option("nodes")
    named = {
        "NCCL_SOCKET_IFNAME",
        "GLOO_SOCKET_IFNAME",
        "NCCL_IB_HCA",
        "NCCL_NET",
        "UCX_NET_DEVICES",
    } & script.assigned.keys()
    if option and (script.nodes or 1) > 1 and script.asks_for_gpus and script.trainings and not named:
        yield option.line, f"{script.nodes} nodes without NCCL_SOCKET_IFNAME"


@rule(
    "debugging-left-on",
    GROUP,
    "warning",
    "settings for the search for a fault",
    """CUDA_LAUNCH_BLOCKING=1 waits for each kernel, and TORCH_DISTRIBUTED_DEBUG=DETAIL compares each collective
    between ranks: the training is much slower. Both are for one run that looks for a fault.""",
    """Remove the line, or set it on the command line when it is needed: `sbatch --export=ALL,CUDA_LAUNCH_BLOCKING=1
    FILE`.""",
)
def debugging_left_on(script: BatchScript) -> Hits:
    for line, name, word in settings(script, r"CUDA_LAUNCH_BLOCKING|TORCH_DISTRIBUTED_DEBUG|HIP_LAUNCH_BLOCKING"):
        if word.value.rstrip(".") in ("1", "DETAIL"):
            yield line, f"{name}={word.value}"


@rule(
    "nccl-debug",
    GROUP,
    "note",
    "NCCL writes much",
    """With INFO or TRACE every rank writes hundreds of lines per start, TRACE some per collective: the error that
    matters is hard to find.""",
    "`export NCCL_DEBUG=WARN`, and INFO with `NCCL_DEBUG_FILE=nccl-%h-%p.log` when you look for a fault.",
)
def nccl_debug(script: BatchScript) -> Hits:
    for line, name, word in settings(script, r"NCCL_DEBUG"):
        if word.value.upper() in ("INFO", "TRACE") and "NCCL_DEBUG_FILE" not in script.assigned:
            yield line, f"{name}={word.value}"


@rule(
    "nccl-switched-off",
    GROUP,
    "warning",
    "a fast path of NCCL that is switched off",
    """NCCL_P2P_DISABLE, NCCL_IB_DISABLE and NCCL_SHM_DISABLE are workarounds for one broken machine. Elsewhere the
    gradients take a path that is much slower.""",
    "Remove the line, and see with `NCCL_DEBUG=INFO` which path NCCL takes.",
)
def nccl_switched_off(script: BatchScript) -> Hits:
    for line, name, word in settings(script, r"NCCL_(P2P|IB|SHM)_DISABLE"):
        if word.value == "1":
            yield line, f"{name}=1"


@rule(
    "old-launcher",
    GROUP,
    "note",
    "the old launcher of PyTorch",
    """torch.distributed.launch is deprecated: it passes --local_rank as an argument, or --local-rank since PyTorch 2,
    which ends many programs.""",
    "Use `torchrun` (`python -m torch.distributed.run`), and read LOCAL_RANK from the environment.",
)
def old_launcher(script: BatchScript) -> Hits:
    for each in script.trainings:
        if any(word.value == "torch.distributed.launch" for word in each.program):
            yield each.command.line, "torch.distributed.launch"
