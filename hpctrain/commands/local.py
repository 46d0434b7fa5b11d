"""Train at once with one process on this machine's GPU (or CPU), in the foreground, without Slurm.

python -m hpctrain.local profiles/jetson.yaml                        start a run
python -m hpctrain.local profiles/jetson.yaml --from desi-vae        start from the weights of a run or a bundle
python -m hpctrain.local profiles/jetson.yaml --set train.epochs=3   change a value
python -m hpctrain.local profiles/jetson.yaml --resume               resume the newest run of this profile
python -m hpctrain.local --resume runs/desi-vae-jetson/2026...       resume this run
python -m hpctrain.local profiles/jetson.yaml --from BUNDLE --public-key leads.pub    only if this key has signed it
python -m hpctrain.local --infer BUNDLE FILES [--public-key FILE]    the same as `hpctrain infer`

local uses the same trainer, profile and run directory as a cluster. After Ctrl-C, a power cut or a reboot, resume with
--resume. --resume starts a new run if there is none, and does nothing if the run is finished, so a service can call it
at every boot. The global batch remains that of the profile, for any number of GPUs in the profile.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.access import enter
from hpctrain.commands.overrides import add_set_argument, overrides_of
from hpctrain.commands.signing_arguments import add_public_key_argument
from hpctrain.errors import CheckpointError, Problem, ProfileError

if TYPE_CHECKING:
    from hpctrain.commands.submit import Wanted
    from hpctrain.launch.submit import Submission
    from hpctrain.profile.judge import Findings
    from hpctrain.profile.schema import Profile
    from hpctrain.rundir import RunDir

NEWEST = "newest run of the profile"
_POLL_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain local``."""
    parser.add_argument("profile", nargs="?", help="YAML profile")
    add_set_argument(parser)
    parser.add_argument(
        "--from", dest="source", metavar="RUN|BUNDLE", help="start from these weights (train.init_from)"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const=NEWEST,
        metavar="RUN",
        help="resume a run (path, name, run id or job id); without RUN, the newest of the profile, or start a new one",
    )
    parser.add_argument("--runs-dir", help="folder of runs, instead of launch.runs_dir")
    parser.add_argument("--no-memory", action="store_true", help="do not estimate the memory first")
    add_public_key_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train in the foreground; return the exit code of the last attempt."""
    from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run

    changes = overrides_of(arguments)
    if arguments.resume not in (None, NEWEST):
        return _resume(find_run(arguments.resume, Path(arguments.runs_dir or DEFAULT_RUNS_DIR)), changes)
    if not arguments.profile:
        message = "which profile? python -m hpctrain.local profiles/jetson.yaml"
        raise ProfileError("command line", [Problem("", message)])
    overrides = [*changes, *_of_options(arguments)]
    profile, site = _as_one_process(arguments.profile, overrides)
    if arguments.resume == NEWEST and (earlier := _newest(profile)) is not None:
        return _resume(earlier, changes, site)
    return _begin(arguments, overrides, profile, site)


def _of_options(arguments: argparse.Namespace) -> list[str]:
    """Return the overrides that ``--runs-dir`` and ``--from`` abbreviate."""
    import json

    from hpctrain.launch.runs import DEFAULT_RUNS_DIR
    from hpctrain.registry.references import model_at
    from hpctrain.signing.keys import anchors_of

    texts = [f"launch.runs_dir={json.dumps(arguments.runs_dir)}"] if arguments.runs_dir else []
    if arguments.source:
        anchors = anchors_of(arguments.public_key)
        source = model_at(arguments.source, Path(arguments.runs_dir or DEFAULT_RUNS_DIR), anchors)
        texts += [f"train.init_from={json.dumps(str(source))}", *_network_of(source)]
    return texts


def _network_of(source: Path) -> list[str]:
    """Return overrides that give the profile the network of a run or bundle, which may have been pruned.

    Files that this run began with are not read again.
    """
    import json

    from hpctrain.profile.lookup import find_family
    from hpctrain.rundir import read_json

    folders = (source, source / "model", source.parent, source.parent.parent / "model")  # run, bundle, file, checkpoint
    card = next((card for folder in folders if (card := read_json(folder / "model.json"))), {})
    keys = dict(card.get("section", {}))
    paths = find_family(keys["family"]).section.paths if "family" in keys else ()
    return [f"model.{name}={json.dumps(None if name in paths else value)}" for name, value in keys.items()]


def _here(profile: Profile) -> list[str]:
    """Return the overrides of ``launch`` for a run in the foreground: one process, at most one GPU, and no site."""
    gpus = min(1, profile.launch.gpus_per_node)
    from hpctrain.profile.targets import THIS_MACHINE

    shape = {"cluster": THIS_MACHINE, "nodes": 1, "gpus_per_node": gpus, "ranks_per_node": "null", "site": "null"}
    return [f"launch.{name}={value}" for name, value in shape.items()]


def _as_one_process(source: str | Path, overrides: list[str]) -> tuple[Profile, str | None]:
    """Return the profile as it runs here, and the site that it names."""
    from hpctrain.launch.submit import with_absolute_paths, with_global_batch
    from hpctrain.profile.load import load_profile

    wanted = load_profile(source, overrides)
    profile = with_absolute_paths(load_profile(source, [*overrides, *_here(wanted)]), Path.cwd())
    return with_global_batch(profile, wanted.global_batch, str(source)), wanted.launch.site


def _newest(profile: Profile) -> RunDir | None:
    from hpctrain.launch.runs import newest_runs

    return next(newest_runs(Path(profile.launch.runs_dir), lambda path: path.parent.name == profile.name), None)


def _begin(arguments: argparse.Namespace, overrides: list[str], profile: Profile, site: str | None) -> int:
    from hpctrain.commands.submit import Wanted, warn_or_refuse
    from hpctrain.launch.submit import prepare, write_runs
    from hpctrain.profile.targets import THIS_MACHINE

    wanted = Wanted(arguments.profile, [[*overrides, *_here(profile)]])
    judged = warn_or_refuse(wanted, memory=not arguments.no_memory)
    within_budget_here(wanted, replace(judged[0], profile=profile), site, memory=not arguments.no_memory)
    submission = prepare([profile], THIS_MACHINE, None)
    write_runs(submission, Path.cwd())
    return _supervise(submission.runs[0])


def within_budget_here(wanted: Wanted, found: Findings, site_name: str | None, memory: bool) -> None:
    """Refuse a run over the budget of its profile, or of the site that the profile names; or ask.

    The prices of a site are those of its own machines, so that money cannot be compared here; a warning says so.

    Parameters
    ----------
    wanted : Wanted
    found : Findings
        Without problems and without a site; its profile is that of the run.
    site_name : str or None
        ``launch.site`` of the profile.
    memory : bool
        Whether the work of a step may be measured, from which the time follows if no earlier run tells it.

    Raises
    ------
    ProfileError
        The budget does not allow it.
    """
    from hpctrain.commands.submit import within_budget
    from hpctrain.profile.check import add_memory
    from hpctrain.profile.site import list_sites, load_site

    site = None
    if site_name is not None and site_name in list_sites():
        site = load_site(site_name).model_copy(update={"prices": None})
    elif site_name is not None:
        print(f"warning: there is no site '{site_name}' here, so that no budget of it is known", file=sys.stderr)
    if memory and site is not None and site.budget is not None and found.measurement is None:
        add_memory(found, {})
    within_budget(wanted, [replace(found, site=site)], may_ask=True)


def _resume(run: RunDir, overrides: list[str], site: str | None = None) -> int:
    """Resume a run if its changed profile fits its saved state; do nothing if the run is finished."""
    from hpctrain.commands.submit import Wanted, warn_or_refuse
    from hpctrain.launch.resume import nothing_left, refuse_to_resume
    from hpctrain.launch.status import describe
    from hpctrain.launch.submit import prepare, with_global_batch
    from hpctrain.profile.load import load_profile
    from hpctrain.profile.targets import THIS_MACHINE

    status = describe(run)
    refuse_to_resume(status)
    profile, _ = _as_one_process(run.profile, overrides)
    wanted = Wanted(run.profile, [[*overrides, *_here(profile)]], status)
    if message := nothing_left(status, profile):
        print(message)
        return 0
    judged = warn_or_refuse(wanted, memory=False)
    profile = with_global_batch(profile, load_profile(run.profile).global_batch, str(run.profile))
    within_budget_here(wanted, replace(judged[0], profile=profile), site, memory=False)
    return _supervise(run, prepare([profile], THIS_MACHINE, None, resume=run))


def _supervise(run: RunDir, submission: Submission | None = None) -> int:
    """Write the files of `submission`, then run attempts in the foreground and show their output."""
    from hpctrain.launch.environment import enter_clean_environment
    from hpctrain.launch.present import as_typed
    from hpctrain.launch.submit import record_job, write_runs
    from hpctrain.launch.supervisor import Supervisor, hold_lock
    from hpctrain.trail.note import note

    resume = f"python -m hpctrain.local --resume {as_typed(run.path)}"
    enter(run.path)
    with hold_lock(run) as is_mine:
        if not is_mine:
            raise CheckpointError(f"{run.path}: another process trains this run already; see: hpctrain status")
        if submission is not None:
            write_runs(submission, Path.cwd())
        enter_clean_environment()
        os.environ["PYTHONUNBUFFERED"] = "1"  # so that the output of the trainer appears at once
        supervisor = Supervisor(run)
        record_job(run, supervisor.job_id)
        note("start", run.path, job_id=supervisor.job_id)
        print(f"run directory  {as_typed(run.path)}\nCtrl-C saves and ends; resume with: {resume}", flush=True)
        ended = threading.Event()
        shown = threading.Thread(target=_show_logs, args=(run, supervisor.job_id, ended), daemon=True)
        shown.start()
        code = supervisor.supervise()
        ended.set()
        shown.join()
    if supervisor.terminated:
        print(f"stopped; resume with: {resume}")
    return code


def _show_logs(run: RunDir, job_id: str, ended: threading.Event) -> None:
    """Print the logs of the trainer as they grow, attempt after attempt, until the run has ended."""
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
