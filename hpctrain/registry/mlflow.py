"""Keep the registry of models of an MLflow server in step: versions, tags and aliases, each once."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpctrain.credentials.urls import without_login
from hpctrain.errors import HpctrainError, SiteError
from hpctrain.metrics.exporters.facts import subject_of
from hpctrain.metrics.exporters.mlflow import MlflowTracker
from hpctrain.metrics.exporters.tracker import read_track
from hpctrain.profile.load import load_profile
from hpctrain.profile.sections.outputs import MlflowSection
from hpctrain.registry.aliases import aliases_of
from hpctrain.registry.folder import ModelFolder, Registry
from hpctrain.registry.gates import gates_of
from hpctrain.registry.policy import RegistryMlflow, read_policy
from hpctrain.registry.version import Version, read_version
from hpctrain.rundir import RunDir

TOKEN = "hpctrain.token"
"""Tag with the token of a version, by which it is found again: the server numbers versions by itself."""
PATIENCE_S = 30.0
"""Longest time that a promotion waits for the server [s]."""
_TIMEOUT_S = "20"


@dataclass
class Synced:
    """What :func:`sync` has done on the server.

    Parameters
    ----------
    made, moved : list of str
        Versions that were registered, and aliases that were moved.
    """

    made: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)


def server_of(registry: Registry) -> tuple[str, RegistryMlflow] | None:
    """Return address and section of the server of a registry; None where ``registry.yaml`` names none."""
    section = read_policy(registry).mlflow
    uri = None if section is None else section.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    return None if section is None or not uri else (uri, section)


def sync(registry: Registry) -> Synced:
    """Register on the server what it lacks, and move its aliases; give it again at any time.

    Raises
    ------
    SiteError
        ``registry.yaml`` names no server, it does not answer, or mlflow is not installed.
    """
    found = server_of(registry)
    if found is None:
        raise SiteError(f"{registry.policy}: names no server; write mlflow: {{tracking_uri: https://...}}")
    uri, section = found
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = _TIMEOUT_S
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise SiteError(f"mlflow: {error}; install it with: pip install 'hpctrain[mlflow]'") from error
    done = Synced()
    with _answers(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        for name in registry.names():
            _sync_model(client, uri, registry.model(name), f"{section.prefix}{name}", done)
    return done


def _sync_model(client: Any, uri: str, model: ModelFolder, name: str, done: Synced) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, tags={"hpctrain.registry": str(model.registry.path)})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = _known(client, name)
    for number in model.numbers():
        version = read_version(model, number)
        if version.facts["token"] not in known:
            run_id = _tracked_run(version, uri)
            source = f"hpctrain:/{version}" if run_id is None else f"runs:/{run_id}/model"
            client.create_model_version(
                name, source, run_id, tags=_tags(version), description=_note(version), await_creation_for=0
            )
            done.made.append(f"{name}:{number}")
    if done.made:
        known = _without_doubles(client, name)
    there = {alias: str(number) for alias, number in client.get_registered_model(name).aliases.items()}
    for alias, number in aliases_of(model).items():
        wanted = known[read_version(model, number).facts["token"]][0]
        if there.get(alias) != str(wanted):
            client.set_registered_model_alias(name, alias, str(wanted))
            done.moved.append(f"{name}@{alias}")


def _known(client: Any, name: str) -> dict[str, list[int]]:
    """Return the server's numbers of each of our versions, by their tokens, rising."""
    known: dict[str, list[int]] = {}
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", max_results=200, page_token=token)
        for each in page:
            known.setdefault(each.tags.get(TOKEN, ""), []).append(int(each.version))
        token = page.token
        if not token:
            return {key: sorted(numbers) for key, numbers in known.items() if key}


def _without_doubles(client: Any, name: str) -> dict[str, list[int]]:
    """Take back what another sync has registered at the same moment; the lowest number of each version stays."""
    known = _known(client, name)
    for numbers in known.values():
        for number in numbers[1:]:
            client.delete_model_version(name, str(number))
    return known


def _tracked_run(version: Version, uri: str) -> str | None:
    """Return the id of the tracked run of the run that a version was made from; None if the run is gone.

    It is made if there is none, because the server takes the link once and for ever. ``hpctrain track`` fills it later.
    """
    run = RunDir(version.facts["run"]["path"])
    known = read_track(run, "mlflow").get(without_login(uri))
    if isinstance(known, str):
        return known
    try:
        profile = load_profile(run.profile)
    except (HpctrainError, OSError):
        return None
    section = (profile.track.mlflow or MlflowSection()).model_copy(update={"tracking_uri": uri})
    tracker = MlflowTracker(subject_of(run, profile), section, int(_TIMEOUT_S))
    tracker.open()
    return tracker.run_id


def _tags(version: Version) -> dict[str, str]:
    run, added = version.facts["run"], version.facts["added"]
    return {
        TOKEN: version.facts["token"],
        "hpctrain.version": str(version.number),
        "hpctrain.run": f"{run['name']}/{run['run_id']}",
        "hpctrain.content": version.facts["content"],
        "hpctrain.added_by": f"{added['user']}@{added['host']}",
        "hpctrain.gates": str(gates_of(version))[:5000],
    }


def _note(version: Version) -> str:
    return str(version.facts["note"])[:5000]


@contextlib.contextmanager
def _answers(uri: str) -> Iterator[None]:
    """Turn the errors of MLflow and of the connection into one that names the server."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        text = str(error).replace(uri, without_login(uri)).splitlines()
        raise SiteError(f"mlflow: {without_login(uri)}: {text[0][:300] if text else type(error).__name__}") from error


def keep_in_step(registry: Registry) -> str | None:
    """Sync in a process of its own, and wait for it for a while; return a note if that did not work.

    The client of MLflow retries and starts threads, and a server may not answer; neither may stop the user.
    """
    if server_of(registry) is None:
        return None
    command = [sys.executable, "-m", "hpctrain", "registry", "sync", "--registry", str(registry.path)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PATIENCE_S, check=False, cwd=Path("/")
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer in {PATIENCE_S:.0f} s"
    else:
        if done.returncode == 0:
            return None
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return f"MLflow was not updated ({reason}); later: hpctrain registry sync"
