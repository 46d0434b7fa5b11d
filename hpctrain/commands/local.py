"""Train here and now: one process on this machine's GPU (or CPU), in the foreground, without Slurm.

python -m hpctrain.local profiles/jetson.yaml                        begin a run
python -m hpctrain.local profiles/jetson.yaml --from runs/desi/2026  start from the weights of a run or a bundle
python -m hpctrain.local profiles/jetson.yaml --set train.epochs=3   change a value
python -m hpctrain.local profiles/jetson.yaml --resume               go on with the newest run of this profile
python -m hpctrain.local --resume runs/desi-vae-jetson/2026...       go on with this run
python -m hpctrain.local --infer BUNDLE FILES                        the same as `hpctrain infer`

The same trainer, profile and run directory as on a cluster. Ctrl-C, a power cut or a reboot lose nothing: go on with
--resume, which begins a run where there is none and leaves a finished one alone, so that a service can call it at every
boot. The global batch stays that of the profile, whatever number of GPUs it names.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.errors import CheckpointError, Problem, ProfileError

if TYPE_CHECKING:
    from hpctrain.profile.schema import Profile
    from hpctrain.rundir import RunDir

NEWEST = "newest run of the profile"
_POLL_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain local``."""
    parser.add_argument("profile", nargs="?", help="YAML profile")
    parser.add_argument(
        "--set", dest="overrides", action="append", nargs="+", default=[], metavar="KEY=VALUE", help="change a value"
    )
    parser.add_argument("--from", dest="source", metavar="RUN|BUNDLE", help="start from these weights: train.init_from")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=NEWEST,
        metavar="RUN",
        help="go on with a run; without RUN the newest one of the profile, or a new one where there is none",
    )
    parser.add_argument("--runs-dir", help="instead of launch.runs_dir")
    parser.add_argument("--no-memory", action="store_true", help="do not estimate the memory first")


def run(arguments: argparse.Namespace) -> int:
    """Train in the foreground; returns the exit code of the last attempt."""
    from hpctrain.launch.runs import find_run
    from hpctrain.launch.status import describe

    overrides = _overrides(arguments)
    if arguments.resume not in (None, NEWEST):
        return _go_on(find_run(arguments.resume, Path(arguments.runs_dir or "runs")), overrides)
    if not arguments.profile:
        message = "which profile? python -m hpctrain.local profiles/jetson.yaml"
        raise ProfileError("command line", [Problem("", message)])
    profile = _as_one_process(arguments.profile, overrides)
    if arguments.resume == NEWEST and (earlier := _newest(profile)) is not None:
        if describe(earlier).state == "finished":
            print(f"{earlier.path} is finished; without --resume a new run begins")
            return 0
        return _go_on(earlier, [])
    return _begin(arguments, overrides, profile)


def _overrides(arguments: argparse.Namespace) -> list[str]:
    import json

    texts = [text for group in arguments.overrides for text in group]
    if arguments.profile is None and texts and "=" not in texts[-1]:
        arguments.profile = texts.pop()  # typed behind --set
    texts += [f"launch.runs_dir={json.dumps(arguments.runs_dir)}"] if arguments.runs_dir else []
    if arguments.source:
        texts += [f"train.init_from={json.dumps(arguments.source)}", *_network_of(Path(arguments.source))]
    return texts


def _network_of(source: Path) -> list[str]:
    """Return overrides that make the profile's network the one of a run or bundle, which may have been pruned."""
    import json

    from hpctrain.rundir import read_json

    folders = (source, source / "model", source.parent, source.parent.parent / "model")  # run, bundle, file, checkpoint
    card = next((card for folder in folders if (card := read_json(folder / "model.json"))), {})
    return [f"model.{name}={json.dumps(value)}" for name, value in card.get("section", {}).items()]


def _here(profile: Profile) -> list[str]:
    """What a run in the foreground changes of ``launch``: one process on one GPU at most, and no site."""
    gpus = min(1, profile.launch.gpus_per_node)
    shape = {"cluster": "local", "nodes": 1, "gpus_per_node": gpus, "ranks_per_node": "null", "site": "null"}
    return [f"launch.{name}={value}" for name, value in shape.items()]


def _as_one_process(source: str | Path, overrides: list[str]) -> Profile:
    from hpctrain.launch.submit import with_absolute_paths, with_global_batch
    from hpctrain.profile.load import load_profile

    wanted = load_profile(source, overrides)
    profile = with_absolute_paths(load_profile(source, [*overrides, *_here(wanted)]), Path.cwd())
    return with_global_batch(profile, wanted.global_batch, str(source))


def _newest(profile: Profile) -> RunDir | None:
    from hpctrain.launch.runs import all_runs

    return next((run for run in all_runs(Path(profile.launch.runs_dir)) if run.name == profile.name), None)


def _begin(arguments: argparse.Namespace, overrides: list[str], profile: Profile) -> int:
    from hpctrain.commands.submit import Wanted, warn_or_refuse
    from hpctrain.launch.submit import prepare, write_runs

    wanted = Wanted(arguments.profile, [[*overrides, *_here(profile)]], None)
    warn_or_refuse(wanted, memory=not arguments.no_memory)
    submission = prepare([profile], "local", None)
    write_runs(submission, Path.cwd())
    return _supervise(submission.runs[0])


def _go_on(run: RunDir, overrides: list[str]) -> int:
    from hpctrain.launch.status import describe
    from hpctrain.launch.submit import prepare, with_global_batch, write_runs
    from hpctrain.profile.load import load_profile

    status = describe(run)
    if status.is_active:
        message = f"{run.path} is {status.state} (says {status.source}); `hpctrain cancel` it first"
        raise ProfileError("command line", [Problem("--resume", message)])
    profile = _as_one_process(run.profile, overrides)
    profile = with_global_batch(profile, load_profile(run.profile).global_batch, str(run.profile))
    write_runs(prepare([profile], "local", None, resume=run), Path.cwd())
    return _supervise(run)


def _supervise(run: RunDir) -> int:
    """Run attempts in the foreground while what they print is shown."""
    from hpctrain.launch.environment import enter_clean_environment
    from hpctrain.launch.present import as_typed
    from hpctrain.launch.submit import record_job
    from hpctrain.launch.supervisor import Supervisor, hold_lock

    enter_clean_environment()
    os.environ["PYTHONUNBUFFERED"] = "1"  # so that what the trainer says is seen when it says it
    resume = f"python -m hpctrain.local --resume {as_typed(run.path)}"
    with hold_lock(run) as is_mine:
        if not is_mine:
            raise CheckpointError(f"{run.path}: another process trains this run already; see: hpctrain status")
        supervisor = Supervisor(run)
        record_job(run, supervisor.job_id)
        print(f"run directory  {as_typed(run.path)}\nCtrl-C saves and ends; go on with: {resume}", flush=True)
        ended = threading.Event()
        shown = threading.Thread(target=_show_logs, args=(run, supervisor.job_id, ended), daemon=True)
        shown.start()
        code = supervisor.supervise()
        ended.set()
        shown.join()
    if supervisor.terminated:
        print(f"stopped; go on with: {resume}")
    return code


def _show_logs(run: RunDir, job_id: str, ended: threading.Event) -> None:
    """Print what the trainer writes into its logs, attempt after attempt, until it is over."""
    positions: dict[Path, int] = {}
    is_last = False
    while not is_last:
        is_last = ended.wait(_POLL_S)
        for path in sorted(run.logs.glob(f"job-{job_id}.*-rank-0000.log")):
            with open(path, encoding="utf-8", errors="replace") as stream:
                stream.seek(positions.get(path, 0))
                sys.stdout.write(stream.read())
                positions[path] = stream.tell()
        sys.stdout.flush()
