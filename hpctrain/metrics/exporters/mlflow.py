"""Keep a copy of a run on an MLflow tracking server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpctrain.credentials.urls import without_login
from hpctrain.errors import EXIT_INTERRUPTED
from hpctrain.metrics.events import Event, Failed, Finished, Started, Stopped, read_event
from hpctrain.metrics.exporters.facts import parameters_of, tags_of
from hpctrain.metrics.exporters.folder import figure_path
from hpctrain.metrics.exporters.mark import Mark
from hpctrain.metrics.exporters.numbers import numbers_of
from hpctrain.metrics.exporters.tracker import Tracker, TrackingError, read_track, write_track
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.outputs import MlflowSection
from hpctrain.records import Record
from hpctrain.rundir import RunDir

_MARK = "hpctrain.received"
_RUN = "hpctrain.run"
_LONGEST_PARAMETER = 6000
_MOST_PARAMETERS = 100
_UPLOAD_TIMEOUT_S = 600
_STATUS = {Started: "RUNNING", Stopped: "SCHEDULED", Failed: "FAILED", Finished: "FINISHED"}
"""Event to MLflow's word for the state of a run; a run that a user interrupted is KILLED, not SCHEDULED."""


def server_of(section: MlflowSection) -> str | None:
    """Return the address of the tracking server: the profile's, else that of the environment; None without one."""
    return section.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None


class MlflowTracker(Tracker):
    """Keep a copy of a run on an MLflow server.

    The mark is a tag of the tracked run, which the server writes together with the numbers that it counts. So it says
    what has arrived, whoever sent it and however the sender ended. The server also keeps equal numbers of one step and
    one time only once.

    Parameters
    ----------
    run : RunDir
        Its ``track/mlflow.json`` holds the id of the tracked run on each server. Without it the run is found by its
        tag.
    profile : Profile
    section : MlflowSection
    timeout_s : int
        Longest time to wait for an answer [s].
    """

    name = "mlflow"

    def __init__(self, run: RunDir, profile: Profile, section: MlflowSection, timeout_s: int = 30) -> None:
        self._run, self._profile, self._timeout_s = run, profile, timeout_s
        uri = server_of(section)
        if uri is None:
            raise TrackingError(
                "mlflow: no server: set track.mlflow.tracking_uri in the profile, MLFLOW_TRACKING_URI in the "
                "environment, or give --tracking-uri"
            )
        self._uri, self._shown_uri = uri, without_login(uri)
        self._experiment = section.experiment or profile.name
        self.artifacts = section.artifacts
        self._client: Any = None
        self._run_id = ""
        self._status: str | None = None
        self._figures: dict[str, set[str]] = {}

    def open(self) -> Mark:
        """Connect, make the tracked run or open it again, and return what it has received."""
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(self._timeout_s)
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # the sender tries again itself, and says so once
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise TrackingError(f"mlflow: {error}; install it with: pip install 'hpctrain[mlflow]'") from error
        self._figures.clear()
        with self._answers():
            self._client = MlflowClient(tracking_uri=self._uri)
            found = self._find() or self._make()
            self._run_id, self._status = found.info.run_id, found.info.status
            self._describe(found)
        self._remember()
        return Mark.from_json(found.data.tags.get(_MARK))

    def send(self, records: Sequence[Record], mark: Mark) -> None:
        """Send the numbers of records, the mark, and the state that the events imply."""
        from mlflow.entities import Metric, RunTag

        metrics = [
            Metric(name, float(value), round(1000 * record["time"]), record["step"])
            for record in records
            if record["kind"] != "event"
            for name, value in numbers_of(record).items()
        ]
        events = [read_event(record) for record in records if record["kind"] == "event"]
        events = [event for event in events if type(event) in _STATUS]
        with self._answers():
            if events:
                self._set_status(events[-1])
            self._client.log_batch(self._run_id, metrics=metrics, tags=[RunTag(_MARK, mark.to_json())])

    def has_figure(self, name: str, step: int) -> bool:
        """Return whether the server has a figure; it is asked once for each name."""
        folder = f"figures/{name}"
        if folder not in self._figures:
            with self._answers():
                found = self._client.list_artifacts(self._run_id, folder)
            self._figures[folder] = {item.path for item in found}
        return figure_path(name, step) in self._figures[folder]

    def send_figure(self, path: Path, name: str, step: int, mark: Mark) -> None:
        """Upload a figure as ``figures/<name>/step-<step>.png``; the list of uploaded files is its mark."""
        with self._answers():
            self._upload(figure_path(name, step), path)
        self._figures[f"figures/{name}"].add(figure_path(name, step))

    def send_files(self, kind: str, paths: Mapping[str, Path], mark: Mark) -> None:
        """Upload files under their relative paths; a second upload of one name replaces the first."""
        with self._answers():
            for name, path in paths.items():
                self._upload(name, path)
            self._client.set_tag(self._run_id, _MARK, mark.to_json())

    def _upload(self, name: str, path: Path) -> None:
        with _timeout(_UPLOAD_TIMEOUT_S):
            self._client.log_artifact(self._run_id, str(path), name.rpartition("/")[0] or None)

    def close(self) -> None:
        """Do nothing: each call has waited for the server's answer."""

    @contextlib.contextmanager
    def _answers(self) -> Iterator[None]:
        """Turn the errors of MLflow and of the connection into one that names the server."""
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            text = str(error).replace(self._uri, self._shown_uri).splitlines()
            reason = text[0][:300] if text else type(error).__name__
            raise TrackingError(f"mlflow: {self._shown_uri}: {reason}") from error

    def _find(self) -> Any:
        """Return the tracked run of this run directory, or None."""
        from mlflow.exceptions import MlflowException

        known = read_track(self._run, self.name).get(self._shown_uri)
        if isinstance(known, str):
            try:
                return self._client.get_run(known)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            return None
        wanted = f"tags.`{_RUN}` = '{self._run.name}/{self._run.run_id}'"
        return next(iter(self._client.search_runs([experiment.experiment_id], wanted, max_results=1)), None)

    def _make(self) -> Any:
        """Make the tracked run, and its experiment if there is none."""
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            try:
                number = self._client.create_experiment(self._experiment)
            except MlflowException as error:  # another run of a study may have made it meanwhile
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                number = self._client.get_experiment_by_name(self._experiment).experiment_id
        elif experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"mlflow: {self._shown_uri}: the experiment '{self._experiment}' is deleted; restore it there, or "
                "choose another with track.mlflow.experiment"
            )
        else:
            number = experiment.experiment_id
        first = next(iter(self._run.read_metrics()), None)
        tags = {_RUN: f"{self._run.name}/{self._run.run_id}"}
        began = None if first is None else round(1000 * first["time"])
        return self._client.create_run(number, start_time=began, tags=tags, run_name=self._run.run_id)

    def _describe(self, found: Any) -> None:
        """Send the parameters and tags that the server does not have; a parameter that has changed becomes a tag."""
        from mlflow.entities import Param, RunTag

        wanted = {name: value[:_LONGEST_PARAMETER] for name, value in parameters_of(self._profile).items()}
        known = found.data.params
        new = [Param(name, value) for name, value in wanted.items() if name not in known]
        tags = {f"hpctrain.{name}": value for name, value in tags_of(self._run).items()}
        tags |= {f"changed.{name}": value for name, value in wanted.items() if known.get(name, value) != value}
        tags |= {"mlflow.source.name": "hpctrain", "mlflow.source.type": "JOB"}
        if self._profile.description:
            tags["mlflow.note.content"] = self._profile.description
        if "hpctrain.user" in tags:
            tags["mlflow.user"] = tags["hpctrain.user"]
        commit = tags.get("hpctrain.project.git_commit") or tags.get("hpctrain.code.git_commit")
        if commit:
            tags["mlflow.source.git.commit"] = commit.removesuffix("-dirty")
        changed = [RunTag(name, value) for name, value in tags.items() if found.data.tags.get(name) != value]
        for first in range(0, max(len(new), len(changed)), _MOST_PARAMETERS):
            few = slice(first, first + _MOST_PARAMETERS)
            self._client.log_batch(self._run_id, params=new[few], tags=changed[few])

    def _set_status(self, event: Event) -> None:
        status = _STATUS[type(event)]
        if isinstance(event, Stopped) and event.exit_code == EXIT_INTERRUPTED:
            status = "KILLED"
        if status == self._status:
            return
        if status in ("FINISHED", "FAILED", "KILLED"):
            self._client.set_terminated(self._run_id, status, end_time=round(1000 * event.time_s))
        else:
            self._client.update_run(self._run_id, status=status)
        self._status = status

    def _remember(self) -> None:
        known = read_track(self._run, self.name)
        if known.get(self._shown_uri) != self._run_id:
            write_track(self._run, self.name, {**known, self._shown_uri: self._run_id})


@contextlib.contextmanager
def _timeout(seconds: int) -> Iterator[None]:
    before = os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(seconds)
    try:
        yield
    finally:
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = before
