"""Send runs, studies and pipelines to MLflow or W&B: each record once, all attempts of a run as one tracked run.

hpctrain track RUN... --to mlflow --tracking-uri https://mlflow.example.org
hpctrain track RUN... --to wandb --project quasars
hpctrain track STUDY --to mlflow                      the study, and each trial and fold below it
hpctrain track PIPELINE --to mlflow                   one time through a pipeline, and its stages below it

Use it on a login node if compute nodes have no network, or for runs that were trained without track.mlflow or
track.wandb. It may be called again and again, while a run trains and after it: it sends what the tracker has not
received. Options that are not given come from the profile of the run, the base of the study, or the profile of the
first stage that trains. Credentials come from the environment (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,
MLFLOW_TRACKING_TOKEN, WANDB_API_KEY).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.access import following
from hpctrain.errors import HpctrainError, Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpctrain.metrics.exporters.subject import Subject
    from hpctrain.metrics.exporters.tracker import Tracker
    from hpctrain.profile.sections.outputs import TrackSection
    from hpctrain.registry.folder import Registry
    from hpctrain.tracking.find import Found

_LIVE_TIMEOUT_S = 10
_TIMEOUT_S = 60
_PIPELINES_DIR = "pipelines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain track``."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN|STUDY|PIPELINE", help="path, name or id, of a run also a job id"
    )
    parser.add_argument("--to", choices=("mlflow", "wandb"), required=True, help="the tracker")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument(
        "--pipelines-dir", type=Path, default=Path(_PIPELINES_DIR), help="folder of pipelines (default: ./pipelines)"
    )
    parser.add_argument("--registry", type=Path, metavar="DIR", help="folder of the registry (default: ./registry)")
    parser.add_argument("--tracking-uri", metavar="URL", help="MLflow: address of the server")
    parser.add_argument("--experiment", metavar="NAME", help="MLflow: experiment (default: the name of the profile)")
    parser.add_argument("--project", metavar="NAME", help="W&B: project (default: the name of the profile)")
    parser.add_argument("--entity", metavar="NAME", help="W&B: team or user")
    parser.add_argument("--mode", choices=("online", "offline"), help="W&B: offline writes files for wandb sync")
    parser.add_argument("--live", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Send each run, study or pipeline; return the exit code of the last one that failed, or 0."""
    from hpctrain.tracking.find import find

    meant = [each for name in arguments.runs for each in find(name, arguments.runs_dir, arguments.pipelines_dir)]
    code = 0
    for found in meant:
        try:
            with following(found.path):
                code = _track(found, arguments) or code
        except HpctrainError as error:
            if len(meant) == 1:
                raise
            print(f"{found.path}: {error}", file=sys.stderr)
            code = error.exit_code
    return code


def _track(found: Found, arguments: argparse.Namespace) -> int:
    from hpctrain.registry.folder import registry_at
    from hpctrain.tracking.find import registry_for
    from hpctrain.tracking.send import Sending

    new_tracker = _trackers(found.track(), arguments)
    own = None if arguments.registry is not None else registry_for(found)
    registry = own or registry_at(arguments.registry, arguments.runs_dir)
    if arguments.live:
        from hpctrain.metrics.exporters.live import follow

        return follow(new_tracker(next(found.subjects(registry, is_live=True))))
    sending = Sending(lambda line: print(f"hpctrain: {line}", file=sys.stderr, flush=True))
    num_records = num_tracked = 0
    for subject in found.subjects(registry):
        num_records += sending.send(new_tracker(subject))
        num_tracked += 1
    below = "" if found.what == "run" else f"{found.what} and {num_tracked - 1} tracked runs below it; "
    print(f"{found.path}: {below}{num_records} new records sent to {arguments.to}")
    _sync_registry(registry, found.track(), arguments)
    return 0


def _trackers(track: TrackSection, arguments: argparse.Namespace) -> Callable[[Subject], Tracker]:
    """Return what makes the tracker of a subject."""
    from hpctrain.profile.sections.outputs import WandbSection

    timeout_s = _LIVE_TIMEOUT_S if arguments.live else _TIMEOUT_S
    if arguments.to == "mlflow":
        from hpctrain.credentials.urls import without_login
        from hpctrain.metrics.exporters.mlflow import MlflowTracker

        if arguments.tracking_uri and without_login(arguments.tracking_uri) != arguments.tracking_uri:
            message = "holds a user or password, which other users of this machine can see; set them in the environment"
            raise ProfileError("command line", [Problem("--tracking-uri", message)])
        mlflow = _mlflow_section(track, arguments)
        return lambda subject: MlflowTracker(subject, mlflow, timeout_s)
    from hpctrain.metrics.exporters.wandb import WandbTracker

    given = {"project": arguments.project, "entity": arguments.entity, "mode": arguments.mode}
    wandb = _with(track.wandb or WandbSection(), given)
    return lambda subject: WandbTracker(subject, wandb, timeout_s)


def _mlflow_section(track: TrackSection, arguments: argparse.Namespace) -> Any:
    from hpctrain.profile.sections.outputs import MlflowSection

    given = {"tracking_uri": arguments.tracking_uri, "experiment": arguments.experiment}
    return _with(track.mlflow or MlflowSection(), given)


def _sync_registry(registry: Registry, track: TrackSection, arguments: argparse.Namespace) -> None:
    """Bring MLflow's registry of models up to date, if ours is kept in step with the same server."""
    if arguments.to != "mlflow" or not registry.policy.is_file():
        return
    from hpctrain.metrics.exporters.mlflow import server_of as tracking_server
    from hpctrain.registry.mlflow import server_of, sync

    found = server_of(registry)
    if found is not None and found[0] == tracking_server(_mlflow_section(track, arguments)):
        done = sync(registry)
        if done.made or done.moved:
            print(f"{registry.path}: in MLflow's registry now: {', '.join([*done.made, *done.moved])}")


def _with(section: Any, given: dict[str, Any]) -> Any:
    """Return the section with the options of the command line."""
    return section.model_copy(update={name: value for name, value in given.items() if value is not None})
