"""Rules of ``track``: packages and keys that a tracker needs, and addresses of servers."""

from __future__ import annotations

import importlib.util
import netrc
import os
from urllib.parse import urlsplit

from hpctrain.profile.judge import Judge

_SCHEMES = ("http", "https", "databricks")
"""Servers that the small client of ``hpctrain[mlflow]`` speaks to; the others are data bases."""
_WANDB_HOST = "api.wandb.ai"


def check_track(judge: Judge) -> None:
    """Judge ``track``."""
    track = judge.profile.track
    if track.mlflow is not None:
        _check_installed(judge, "mlflow")
        _check_server(judge, track.mlflow.tracking_uri)
    if track.wandb is not None:
        _check_installed(judge, "wandb")
        if track.wandb.mode == "online" and not _has_wandb_key():
            message = (
                "needs a key, and there is none here: set WANDB_API_KEY in the environment of the job or call wandb "
                "login; otherwise the run trains, but sends nothing"
            )
            judge.warn(message, "track.wandb")


def _check_installed(judge: Judge, package: str) -> None:
    if importlib.util.find_spec(package) is None:
        message = f"needs the package {package}, which is not installed here: pip install 'hpctrain[{package}]'"
        judge.problem(message, f"track.{package}")


def _check_server(judge: Judge, tracking_uri: str | None) -> None:
    where = "track.mlflow.tracking_uri"
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        message = (
            "is not set, and neither is MLFLOW_TRACKING_URI in the environment; give the address of the server, such "
            "as https://mlflow.example.org"
        )
        judge.problem(message, where, "track.mlflow")
        return
    parts = urlsplit(uri)
    if tracking_uri is not None and "@" in parts.netloc:
        message = (
            "holds a user or password; remove it, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
            "MLFLOW_TRACKING_TOKEN, in the environment: this file is copied into every run directory"
        )
        judge.problem(message, where)
    elif parts.scheme not in _SCHEMES and uri != "databricks":
        message = (
            f"'{uri}' is not the address of a server: begin with http:// or https://. hpctrain sends no run to a data "
            "base or a folder; start a server on it with: mlflow server --backend-store-uri ..."
        )
        judge.problem(message, where)


def _has_wandb_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        logins = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "")).hostname or _WANDB_HOST
    return logins.authenticators(host) is not None
