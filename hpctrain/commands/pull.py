"""Bring a run back from its mirror: records, model, and the newest whole checkpoint.

hpctrain pull s3://bucket/runs/sdss-vae/20270115-080000-aaaa    into ./runs/sdss-vae/20270115-080000-aaaa
hpctrain pull RUN                  from where its platform keeps it, or from checkpoint.mirror of its profile

Every byte of a checkpoint is verified. A run directory with the same or a newer checkpoint stays as it is.
Afterwards: hpc-submit --resume RUN.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.present import as_typed
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.profile.remote import is_remote
from hpctrain.rundir import RunDir
from hpctrain.terminal import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain pull``."""
    parser.add_argument("what", metavar="ADDRESS|RUN", help="address of the run in the mirror, or a run that has one")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Bring one run back."""
    from hpctrain.checkpoint.mirror import Mirror, pull

    if is_remote(arguments.what):
        *_, name, run_id = arguments.what.rstrip("/").split("/")
        here = RunDir(arguments.runs_dir / name / run_id)
        mirror = Mirror(arguments.what)
    else:
        here = find_run(arguments.what, arguments.runs_dir)
        home = here.read_job().get("home")
        mirror = Mirror(home) if home else Mirror.of(here, _place_of(here))
    was_there = here.path.exists()
    pulled = pull(mirror, here)
    for item in pulled.rejected:
        print(printable(f"hpctrain: skipped {item.path}: {item.reason}"), file=sys.stderr)
    if pulled.step is None and not pulled.records:
        if not was_there:
            raise _wrong(arguments.what, "holds no run; its address ends with <name>/<run id>")
        print(f"{here.path} has the same or a newer checkpoint; nothing was changed")
        return 0
    checkpoint = "no checkpoint" if pulled.step is None else f"the checkpoint of step {pulled.step}"
    print(f"{here.path}: {checkpoint} and {pulled.records} files from {mirror.shown}")
    print(f"to go on: hpc-submit --resume {as_typed(here.path)}")
    return 0


def _place_of(run: RunDir) -> str:
    from hpctrain.profile.load import load_profile

    place = load_profile(run.profile).checkpoint.mirror
    if place is None:
        raise _wrong(str(run.path), "has no checkpoint.mirror in its profile; give the address of a mirror")
    return place


def _wrong(where: str, message: str) -> ProfileError:
    return ProfileError("command line", [Problem(where, message)])
