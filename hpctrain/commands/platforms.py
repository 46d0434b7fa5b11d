"""List the GPUs and boards that a profile can name with ``platform:``.

The column of memory gives the memory that a process can use. The batch sizes are a rule of thumb for large networks;
``hpctrain check`` computes the memory that the network of a profile needs. With ``--machines CLOUD``: the machines that
``launch.instance_type`` can name there.
"""

from __future__ import annotations

import argparse
import dataclasses
import json

from rich.box import SIMPLE_HEAD
from rich.table import Table

from hpctrain.profile.instances import INSTANCES
from hpctrain.profile.platforms import PLATFORMS, Platform
from hpctrain.terminal import console


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain platforms``."""
    clouds = sorted({each.cloud for each in INSTANCES})
    parser.add_argument("--machines", choices=clouds, help="print the machines of a managed cloud instead")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    rows = [each for each in INSTANCES if each.cloud == args.machines] if args.machines else PLATFORMS.values()
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return 0
    table = _machines(args.machines) if args.machines else _platforms()
    screen = console()
    screen.print(table) if screen.is_terminal else console(width=160).print(table)
    return 0


def _machines(cloud: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for title in ("machine", "platform"):
        table.add_column(title, no_wrap=True)
    for title in ("GPUs", "vCPUs", "memory GiB"):
        table.add_column(title, justify="right")
    for each in INSTANCES:
        if each.cloud == cloud:
            table.add_row(each.name, each.platform, str(each.gpus), str(each.vcpus), f"{each.memory_gib:g}")
    return table


def _platforms() -> Table:
    table = Table(box=SIMPLE_HEAD)
    for title in ("platform", "device", "also named"):
        table.add_column(title, no_wrap=title == "platform")
    for title in ("memory GiB", "CUDA", "precision", "batch", "accumulation"):
        table.add_column(title, justify="right")

    def precision(platform: Platform) -> str:
        supported = {"fp32": True, "fp16": platform.has_fp16, "bf16": platform.has_bf16}
        return " ".join(name for name, is_supported in supported.items() if is_supported)

    for platform in PLATFORMS.values():
        memory = f"{platform.memory_gib:.1f}" if platform.is_gpu else "the host's"
        shared = " (shared with the CPU)" if platform.is_gpu and platform.is_unified else ""
        table.add_row(
            platform.name,
            platform.title + shared,
            ", ".join(platform.aliases),
            memory,
            platform.compute_capability or "none",
            precision(platform),
            "{}-{}".format(*platform.batch_size),
            "{}-{}".format(*platform.accumulation),
        )
    return table
