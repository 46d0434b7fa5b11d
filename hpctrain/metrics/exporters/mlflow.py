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
from hpctrain.metrics.exporters.folder import figure_path
from hpctrain.metrics.exporters.mark import Mark
from hpctrain.metrics.exporters.mlflow_data import input_of
from hpctrain.metrics.exporters.numbers import numbers_of
from hpctrain.metrics.exporters.subject import DataSet, Registered, Subject
from hpctrain.metrics.exporters.tracker import Tracker, TrackingError, only_sender, read_track, write_track
from hpctrain.profile.sections.outputs import MlflowSection
from hpctrain.records import Record

_MARK = "hpctrain.received"
_RUN = "hpctrain.run"
_LASTING = (_MARK, "hpctrain.registered.")
"""Beginnings of tags that are not facts of the run directory."""
_LONGEST_PARAMETER = 6000
_LONGEST_TAG = 5000
_SERVER_ERROR = 500
_PARENT_PATIENCE_S = 30.0
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
    subject : Subject
        ``track/mlflow.json`` in its folder holds the id of the tracked run on each server. Without it the run is found
        by its tag. The tracked run of its parent is made if there is none.
    section : MlflowSection
        If it names no experiment, that of the subject counts.
    timeout_s : int
        Longest time to wait for an answer [s].

    Attributes
    ----------
    run_id : str
        Of the tracked run; empty before :meth:`open`.
    """

    name = "mlflow"

    def __init__(self, subject: Subject, section: MlflowSection, timeout_s: int = 30) -> None:
        self.subject, self._run, self._section, self._timeout_s = subject, subject.run, section, timeout_s
        uri = server_of(section)
        if uri is None:
            raise TrackingError(
                "mlflow: no server: set track.mlflow.tracking_uri in the profile, MLFLOW_TRACKING_URI in the "
                "environment, or give --tracking-uri"
            )
        self._uri, self._shown_uri = uri, without_login(uri)
        self._experiment = section.experiment or subject.experiment
        self.artifacts = section.artifacts
        self._client: Any = None
        self.run_id = ""
        self._parent_id: str | None = None
        self._status: str | None = None
        self._figures: dict[str, set[str]] = {}

    def open(self) -> Mark:
        """Connect, make the tracked run or open it again, and return what it has received."""
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(self._timeout_s)
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"  # the sender tries again itself, and says so once
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # its makers would hear of each run
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise TrackingError(f"mlflow: {error}; install it with: pip install 'hpctrain[mlflow]'") from error
        self._figures.clear()
        with self._answers():
            self._client = MlflowClient(tracking_uri=self._uri)
            self._parent_id = self._open_parent()
            with only_sender(self._run, f"{self.name}-open", _PARENT_PATIENCE_S):  # trials of a study open its own
                found = self._find() or self._make()
                self.run_id, self._status = found.info.run_id, found.info.status
                self._remember()
            self._describe(found)
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
                self._event_status(events[-1])
            self._client.log_batch(self.run_id, metrics=metrics, tags=[RunTag(_MARK, mark.to_json())])

    def has_figure(self, name: str, step: int) -> bool:
        """Return whether the server has a figure; it is asked once for each name."""
        folder = f"figures/{name}"
        if folder not in self._figures:
            with self._answers():
                found = self._client.list_artifacts(self.run_id, folder)
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
        self._note(mark)

    def _upload(self, name: str, path: Path) -> None:
        with _timeout(_UPLOAD_TIMEOUT_S):
            self._client.log_artifact(self.run_id, str(path), name.rpartition("/")[0] or None)

    def send_facts(self, mark: Mark) -> None:
        """Note the mark: :meth:`open` has sent parameters, tags and state."""
        self._note(mark)

    def send_data(self, data: Sequence[DataSet], mark: Mark) -> None:
        """Log data sets as inputs of the tracked run; the server keeps equal ones once."""
        with self._answers():
            self._client.log_inputs(self.run_id, datasets=[input_of(each) for each in data])
        self._note(mark)

    def send_version(self, version: Registered, mark: Mark) -> None:
        """Tag the tracked run with a version and its aliases; ``hpctrain registry sync`` links it in the registry."""
        text = ", ".join([str(version.number), *version.aliases])
        with self._answers():
            self._client.set_tag(self.run_id, f"hpctrain.registered.{version.model}", text)
        self._note(mark)

    def _note(self, mark: Mark) -> None:
        with self._answers():
            self._client.set_tag(self.run_id, _MARK, mark.to_json())

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
            status = getattr(error, "get_http_status_code", lambda: _SERVER_ERROR)()
            may_pass = isinstance(error, OSError) or status >= _SERVER_ERROR
            raise TrackingError(f"mlflow: {self._shown_uri}: {reason}", may_pass) from error

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
        wanted = f"tags.`{_RUN}` = '{self.subject.key}'"
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
        began_s = self.subject.began_s
        began = None if began_s is None else round(1000 * began_s)
        tags = {_RUN: self.subject.key}
        return self._client.create_run(number, start_time=began, tags=tags, run_name=self.subject.title)

    def _describe(self, found: Any) -> None:
        """Send the parameters and tags that the server does not have; a parameter that has changed becomes a tag."""
        from mlflow.entities import Param, RunTag

        wanted = {name: value[:_LONGEST_PARAMETER] for name, value in self.subject.parameters.items()}
        known = found.data.params
        new = [Param(name, value) for name, value in wanted.items() if name not in known]
        tags = self._tags()
        tags |= {f"changed.{name}": value for name, value in wanted.items() if known.get(name, value) != value}
        changed = [RunTag(name, value) for name, value in tags.items() if found.data.tags.get(name) != value]
        for first in range(0, max(len(new), len(changed)), _MOST_PARAMETERS):
            few = slice(first, first + _MOST_PARAMETERS)
            self._client.log_batch(self.run_id, params=new[few], tags=changed[few])
        for name in found.data.tags:
            if name.startswith("hpctrain.") and not name.startswith(_LASTING) and name not in tags:
                self._client.delete_tag(self.run_id, name)  # such as the exit code of a stage that was done again
        if self.subject.status is not None:
            self._set_status(self.subject.status, self.subject.ended_s)

    def _tags(self) -> dict[str, str]:
        """Return the tags of the tracked run, those of MLflow's own pages included."""
        subject = self.subject
        tags = {f"hpctrain.{name}": value[:_LONGEST_TAG] for name, value in subject.tags.items()}
        tags |= {_RUN: subject.key, "hpctrain.kind": subject.kind}
        tags |= {"mlflow.source.name": "hpctrain", "mlflow.source.type": "JOB"}
        if subject.group is not None:
            tags["hpctrain.group"] = subject.group
        if self._parent_id is not None:
            tags["mlflow.parentRunId"] = self._parent_id
        if subject.description:
            tags["mlflow.note.content"] = subject.description
        if "hpctrain.user" in tags:
            tags["mlflow.user"] = tags["hpctrain.user"]
        commit = tags.get("hpctrain.project.git_commit") or tags.get("hpctrain.code.git_commit")
        if commit:
            tags["mlflow.source.git.commit"] = commit.removesuffix("-dirty")
        return tags

    def _open_parent(self) -> str | None:
        """Return the id of the tracked run of the study or pipeline that this one belongs to; make it if need be."""
        parent = self.subject.parent
        if parent is None:
            return None
        known = read_track(parent.run, self.name).get(self._shown_uri)
        if isinstance(known, str):
            return known
        tracker = MlflowTracker(parent, self._section, self._timeout_s)
        tracker.open()
        return tracker.run_id

    def _event_status(self, event: Event) -> None:
        status = _STATUS[type(event)]
        if isinstance(event, Stopped) and event.exit_code == EXIT_INTERRUPTED:
            status = "KILLED"
        self._set_status(status, event.time_s)

    def _set_status(self, status: str, ended_s: float | None) -> None:
        if status == self._status:
            return
        if status in ("FINISHED", "FAILED", "KILLED"):
            ended = None if ended_s is None else round(1000 * ended_s)
            self._client.set_terminated(self.run_id, status, end_time=ended)
        else:
            self._client.update_run(self.run_id, status=status)
        self._status = status

    def _remember(self) -> None:
        known = read_track(self._run, self.name)
        if known.get(self._shown_uri) != self.run_id:
            write_track(self._run, self.name, {**known, self._shown_uri: self.run_id})


@contextlib.contextmanager
def _timeout(seconds: int) -> Iterator[None]:
    before = os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(seconds)
    try:
        yield
    finally:
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = before
