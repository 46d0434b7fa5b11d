"""Helpers of the benchmarks: make spectra and a profile, and run its ranks as processes or in this one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hpctrain.kinds.spectra.section import SimulateSection
from hpctrain.kinds.spectra.simulate import simulate
from hpctrain.rundir import RunDir

if TYPE_CHECKING:
    from hpctrain.train.run import Run

REPOSITORY = Path(__file__).resolve().parents[1]


def make_run(
    folder: Path, name: str, num_pixels: int, num_spectra: int = 2000, ranks: int = 1, **sections: Mapping[str, Any]
) -> RunDir:
    """Make a run directory with the spectra and a profile, which has defaults except for `sections`.

    Parameters
    ----------
    folder : Path
        Scratch folder; an existing file of spectra in it is reused.
    name : str
        Name of the run.
    num_pixels : int
        Pixels L of a spectrum.
    num_spectra : int
    ranks : int
        Number of ranks from which the global batch follows.
    **sections : mapping
        Keys of a section of the profile with values other than the default, such as ``train={"batch_size": 8}``.
    """
    spectra = folder / f"spectra-{num_spectra}-{num_pixels}.h5"
    if not spectra.exists():
        simulate(spectra, SimulateSection(num_spectra=num_spectra, num_pixels=num_pixels))
    profile: dict[str, Any] = {
        "name": name,
        "launch": {"gpus_per_node": 0, "ranks_per_node": ranks, "cpus_per_rank": 1},
        "data": {"files": [str(spectra)], "reader_threads": 1},
        "train": {"device": "cpu"},
    }
    for section, keys in sections.items():
        profile[section] = {**profile.get(section, {}), **keys}
    run = RunDir.create(folder, "benchmark", name)
    run.profile.write_text(yaml.safe_dump(profile))
    return run


def build_here(directory: RunDir) -> Run:
    """Build the run of a directory in this process, as an attempt does; the environment gives the rank.

    The parts are the real ones: heartbeat, watchdog, metrics and exporters are at work.
    """
    from hpctrain.distributed.group import be_deterministic, choose_device, open_group, use_expandable_segments
    from hpctrain.distributed.heartbeat import Heartbeat
    from hpctrain.distributed.stop import StopRequest
    from hpctrain.distributed.watchdog import Watchdog
    from hpctrain.distributed.world import World
    from hpctrain.metrics.record import MetricsWriter
    from hpctrain.profile.load import load_profile
    from hpctrain.train.arithmetic import set_float32_arithmetic
    from hpctrain.train.build import build_run, subscribe_exporters
    from hpctrain.train.run import Rank

    world, profile = World.from_environment(), load_profile(directory.profile)
    use_expandable_segments()
    device = choose_device(world, profile.train.device)
    if profile.train.deterministic:
        be_deterministic(device)
    set_float32_arithmetic(profile.train.precision)
    directory.make_folders()
    open_group(world, device, directory, profile.monitor.hang_timeout_s, StopRequest())
    stop = StopRequest(deadline_s=time.time() + 1e6, lead_s=180.0)
    heartbeat = Heartbeat(directory, world, 1, profile.monitor.heartbeat_s).start()
    watchdog = Watchdog(profile.monitor.hang_timeout_s, directory.logs / "stacks.txt", lambda: "measuring").start()
    metrics = MetricsWriter(directory, 1) if world.is_main else None
    run = build_run(Rank(directory, world, device, 1, stop, heartbeat, watchdog, metrics), profile)
    subscribe_exporters(run)
    return run


def python_path() -> str:
    """Return PYTHONPATH for a child that must import this checkout."""
    return os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])


def start_ranks(
    command: list[str], world_size: int, quiet: bool = False, **environment: str
) -> list[subprocess.Popen[str]]:
    """Start a Python command as `world_size` ranks on this machine, as torchrun does, with one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(world_size):
        place = {"RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world_size}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1, "PYTHONPATH": python_path()}
        processes.append(
            subprocess.Popen(
                [sys.executable, *command],
                env={**os.environ, **{key: str(value) for key, value in place.items()}, **environment},
                stdout=subprocess.PIPE if rank == 0 and not quiet else subprocess.DEVNULL,
                stderr=subprocess.DEVNULL if quiet else None,
                text=True,
            )
        )
    return processes


def run_ranks(command: list[str], world_size: int) -> Any:
    """Run a Python command as ranks, and return the JSON value in the last line that rank 0 printed."""
    processes = start_ranks(command, world_size)
    output = processes[0].communicate()[0]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit(f"{command}: exit codes {codes}")
    return json.loads(output.splitlines()[-1])


def ratio(values: list[float], base: list[float]) -> str:
    """Return the median of the rounds' ratios with minimum and maximum: ``1.01 (0.98-1.05)``."""
    ratios = sorted(value / other for value, other in zip(values, base, strict=True))
    return f"{ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
