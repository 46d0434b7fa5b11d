"""Send runs to MLflow or W&B: each record once, all attempts of a run as one tracked run.

hpctrain track RUN... --to mlflow --tracking-uri https://mlflow.example.org
hpctrain track RUN... --to wandb --project quasars

Use it on a login node if compute nodes have no network, or for runs that were trained without track.mlflow or
track.wandb. It may be called again and again, while a run trains and after it: it sends what the tracker has not
received. Options that are not given come from the profile of the run. Credentials come from the environment
(MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, WANDB_API_KEY).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.access import following
from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run

if TYPE_CHECKING:
    from hpctrain.metrics.exporters.tracker import Tracker
    from hpctrain.profile.schema import Profile
    from hpctrain.rundir import RunDir

_LIVE_TIMEOUT_S = 10
_TIMEOUT_S = 60
_LOCK_PATIENCE_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``hpctrain track``."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="path, name, run id or job id")
    parser.add_argument("--to", choices=("mlflow", "wandb"), required=True, help="the tracker")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--tracking-uri", metavar="URL", help="MLflow: address of the server")
    parser.add_argument("--experiment", metavar="NAME", help="MLflow: experiment (default: the name of the profile)")
    parser.add_argument("--project", metavar="NAME", help="W&B: project (default: the name of the profile)")
    parser.add_argument("--entity", metavar="NAME", help="W&B: team or user")
    parser.add_argument("--mode", choices=("online", "offline"), help="W&B: offline writes files for wandb sync")
    parser.add_argument("--live", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Send each run; return the exit code of the last one that failed, or 0."""
    from hpctrain.errors import HpctrainError

    code = 0
    for name in arguments.runs:
        run_dir = find_run(name, arguments.runs_dir)
        try:
            with following(run_dir.path):
                code = _track(run_dir, arguments) or code
        except HpctrainError as error:
            if len(arguments.runs) == 1:
                raise
            print(f"{run_dir.path}: {error}", file=sys.stderr)
            code = error.exit_code
    return code


def _track(run_dir: RunDir, arguments: argparse.Namespace) -> int:
    from hpctrain.metrics.exporters.tracker import Sender, TrackingError, only_sender
    from hpctrain.profile.load import load_profile

    tracker = _tracker(run_dir, load_profile(run_dir.profile), arguments)
    if arguments.live:
        from hpctrain.metrics.exporters.live import follow

        return follow(run_dir, tracker)
    sender = Sender(run_dir, tracker)
    with only_sender(run_dir, arguments.to, _LOCK_PATIENCE_S) as is_ours:
        if not is_ours:
            raise TrackingError(f"{run_dir.path}: another process is sending this run; it sends everything")
        sender.send_new()
        tracker.close()
    print(f"{run_dir.path}: {sender.num_sent} new records sent to {arguments.to}")
    return 0


def _tracker(run_dir: RunDir, profile: Profile, arguments: argparse.Namespace) -> Tracker:
    from hpctrain.profile.sections.outputs import MlflowSection, WandbSection

    timeout_s = _LIVE_TIMEOUT_S if arguments.live else _TIMEOUT_S
    if arguments.to == "mlflow":
        from hpctrain.credentials.urls import without_login
        from hpctrain.metrics.exporters.mlflow import MlflowTracker

        given = {"tracking_uri": arguments.tracking_uri, "experiment": arguments.experiment}
        if arguments.tracking_uri and without_login(arguments.tracking_uri) != arguments.tracking_uri:
            message = "holds a user or password, which other users of this machine can see; set them in the environment"
            raise ProfileError("command line", [Problem("--tracking-uri", message)])
        section = profile.track.mlflow or MlflowSection()
        return MlflowTracker(run_dir, profile, _with(section, given), timeout_s)
    from hpctrain.metrics.exporters.wandb import WandbTracker

    given = {"project": arguments.project, "entity": arguments.entity, "mode": arguments.mode}
    return WandbTracker(run_dir, profile, _with(profile.track.wandb or WandbSection(), given), timeout_s)


def _with(section, given):
    """Return the section with the options of the command line."""
    return section.model_copy(update={name: value for name, value in given.items() if value is not None})
