"""Keep a copy of a run in Weights & Biases, online or in files to be synced later."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpctrain.errors import EXIT_BUG, EXIT_FINISHED, EXIT_REQUEUE
from hpctrain.metrics.events import Failed, Finished, Started, Stopped, read_event
from hpctrain.metrics.exporters.mark import Mark
from hpctrain.metrics.exporters.numbers import numbers_of
from hpctrain.metrics.exporters.subject import FAILED, FINISHED, OUTPUT, DataSet, Registered, Subject
from hpctrain.metrics.exporters.tracker import Tracker, TrackingError, read_track, write_track
from hpctrain.profile.sections.outputs import WandbSection
from hpctrain.records import Record

_UPLOAD_TIMEOUT_S = 50.0
_ENDS = {Started: EXIT_REQUEUE, Stopped: EXIT_REQUEUE, Failed: EXIT_BUG, Finished: EXIT_FINISHED}
"""Event to the exit code that it implies."""
_KINDS = ("train", "eval", "monitor", "figures", "validation", "trial", "study", "stage")
_LONGEST_NAME = 128
_NOT_IN_NAMES = re.compile(r"[^\w.-]")


class WandbTracker(Tracker):
    """Keep a copy of a run in W&B.

    W&B's client takes rows over at once, writes them to a file in the ``wandb`` folder of the run directory, and
    uploads them in a process of its own. So the mark is in ``track/wandb.json`` and says what the client has taken
    over. A row has the number of its record in the run; W&B ignores a row whose number it has.

    Parameters
    ----------
    subject : Subject
        Its group becomes W&B's, its kind the type of job.
    section : WandbSection
        If it names no project, the experiment of the subject counts.
    timeout_s : int
        Longest time to wait for an answer at the beginning [s].
    """

    name = "wandb"

    def __init__(self, subject: Subject, section: WandbSection, timeout_s: int = 30) -> None:
        self.subject, self._run, self._section, self._timeout_s = subject, subject.run, section, timeout_s
        self.artifacts = section.artifacts
        self._project = section.project or subject.experiment
        self._wandb_run: Any = None
        self._place = f"{section.mode}:{section.entity or ''}/{self._project}"
        self._figures: dict[str, list[int]] = {}

    def open(self) -> Mark:
        """Return what W&B's client has taken over; the client starts with the first record that is new."""
        kept = read_track(self._run, self.name).get(self._place)
        kept = kept if isinstance(kept, dict) else {}
        known_id, received, figures = (kept.get(name) for name in ("id", "received", "figures"))
        self._figures = figures if isinstance(figures, dict) else {}
        self._id = known_id if isinstance(known_id, str) else self.subject.short_id
        return Mark.from_json(received if isinstance(received, str) else None)

    def _client(self) -> Any:
        """Return W&B's run, which is made, or opened again, by the first call."""
        if self._wandb_run is not None:
            return self._wandb_run
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its makers would get the errors of the client
        try:
            import wandb
        except ImportError as error:
            raise TrackingError(f"wandb: {error}; install it with: pip install 'hpctrain[wandb]'") from error
        self._wandb_run = wandb.init(
            project=self._project,
            entity=self._section.entity,
            id=self._id,
            name=self.subject.title,
            group=self.subject.group,
            job_type=self.subject.kind,
            notes=self.subject.description or None,
            resume="allow",
            mode=self._section.mode,
            dir=str(self._run.path),
            config={**self.subject.config, "provenance": dict(self.subject.tags)},
            allow_val_change=True,
            settings=self._settings(wandb),
        )
        self._wandb_run.define_metric("step", hidden=True)
        for kind in _KINDS:
            self._wandb_run.define_metric(f"{kind}/*", step_metric="step")
        return self._wandb_run

    def send(self, records: Sequence[Record], mark: Mark) -> None:
        """Hand the numbers of records over to W&B's client."""
        with self._understands():
            client = self._client()
            for number, record in enumerate(records, start=mark.rows - len(records)):
                if record["kind"] != "event":
                    row = {**numbers_of(record), "step": record["step"], "_timestamp": record["time"]}
                    client.log(row, step=number, commit=True)
            self._wait_until_taken()
        self._remember(mark)

    def has_figure(self, name: str, step: int) -> bool:
        """Return whether W&B's client has taken a figure over."""
        return step in self._figures.get(name, ())

    def send_figure(self, path: Path, name: str, step: int, mark: Mark) -> None:
        """Log a figure as an image, ``figures/<name>``."""
        with self._understands():
            client = self._client()
            import wandb

            row = {f"figures/{name}": wandb.Image(str(path)), "step": step}
            client.log(row, step=mark.rows - 1, commit=True)
            self._wait_until_taken()
        self._figures[name] = [*self._figures.get(name, ()), step]
        self._remember(mark)

    def send_files(self, kind: str, paths: Mapping[str, Path], mark: Mark) -> None:
        """Log files as one artifact, ``<kind>-<id of the run>``."""
        with self._understands():
            client = self._client()
            import wandb

            artifact = wandb.Artifact(f"{kind}-{self._id}", type=kind)
            for name, path in paths.items():
                artifact.add_file(str(path), name=name)
            client.log_artifact(artifact)
            self._wait_until_taken()
        self._remember(mark)

    def send_facts(self, mark: Mark) -> None:
        """Start W&B's client, which takes the config and the group over."""
        with self._understands():
            self._client()
            self._wait_until_taken()
        self._remember(mark)

    def send_data(self, data: Sequence[DataSet], mark: Mark) -> None:
        """Log each data set as an artifact of type ``dataset`` that refers to the file and has its digest.

        W&B draws lineage from artifacts of one name and digest: one run writes them, others use them.
        """
        with self._understands():
            client = self._client()
            for each in data:
                artifact = _artifact_of(each)
                if each.role == OUTPUT:
                    client.log_artifact(artifact)
                elif self._section.mode == "online":
                    client.use_artifact(artifact)
                else:  # use_artifact refuses to work offline, although the file has a place for what it would say
                    client._log_artifact(artifact, aliases=[], is_user_created=True, use_after_commit=True)
            self._wait_until_taken()
        self._remember(mark)

    def send_version(self, version: Registered, mark: Mark) -> None:
        """Log the model of a version as an artifact of type ``model``, with the aliases of the version.

        W&B takes an alias away from the version that had it, and keeps equal files once.
        """
        with self._understands():
            client = self._client()
            import wandb

            facts = {"model": version.model, "version": version.number, "run": self.subject.key}
            artifact = wandb.Artifact(_name(version.model), type="model", metadata=facts)
            for path in sorted((version.folder / "model").rglob("*")):
                if path.is_file():
                    artifact.add_file(str(path), name=str(path.relative_to(version.folder)), policy="immutable")
            client.log_artifact(artifact, aliases=[f"version-{version.number}", *version.aliases])
            self._wait_until_taken()
        self._remember(mark)

    def close(self) -> None:
        """End W&B's client, which uploads what it holds."""
        if self._wandb_run is not None:
            code = self._exit_code()
            with self._understands():
                if code == EXIT_REQUEUE:
                    self._wandb_run.mark_preempting()
                self._wandb_run.finish(exit_code=code)
            self._wandb_run = None

    def _wait_until_taken(self) -> None:
        """Wait until W&B's own process has taken over what was logged; it then survives the end of this process."""
        self._wandb_run.summary.get("step")  # an answer means that everything before the question has arrived

    def _settings(self, wandb: Any) -> Any:
        known = {
            "console": "off",  # the logs of the run are in its run directory
            "silent": True,
            "disable_git": True,  # provenance.json has the state of the code, without credentials
            "save_code": False,
            "x_disable_stats": True,  # the run has sensors of its own
            "x_disable_meta": True,
            "init_timeout": float(self._timeout_s),
            "login_timeout": float(self._timeout_s),
            "finish_timeout": max(float(self._timeout_s), _UPLOAD_TIMEOUT_S),
            "finish_timeout_raises": True,
        }
        return wandb.Settings(**{name: value for name, value in known.items() if name in wandb.Settings.model_fields})

    def _exit_code(self) -> int:
        """Return how the run ended so far; a run that trains, or was killed, counts as one that will go on."""
        if self.subject.status is not None:
            return {FINISHED: EXIT_FINISHED, FAILED: EXIT_BUG}.get(self.subject.status, EXIT_REQUEUE)
        code = EXIT_REQUEUE
        for event in map(read_event, self._run.read_metrics("event")):
            if type(event) in _ENDS:
                told = event.exit_code if isinstance(event, Stopped | Failed) else None
                code = _ENDS[type(event)] if told is None else told
        return code

    @contextlib.contextmanager
    def _understands(self) -> Iterator[None]:
        try:
            yield
        except TrackingError:
            raise
        except Exception as error:
            text = str(error).splitlines()
            reason = text[0][:300] if text else type(error).__name__
            raise TrackingError(f"wandb: {self._project}: {reason}") from error

    def _remember(self, mark: Mark) -> None:
        entry = {"id": self._id, "received": mark.to_json(), "figures": self._figures}
        write_track(self._run, self.name, {**read_track(self._run, self.name), self._place: entry})


def _name(text: str) -> str:
    return _NOT_IN_NAMES.sub("-", text)[:_LONGEST_NAME]


def _artifact_of(data: DataSet) -> Any:
    """Return a data set as an artifact that refers to the file, which W&B neither reads nor uploads."""
    import wandb
    from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

    facts = {"sha256": data.digest, "of": data.means, "bytes": data.size, "path": data.path}
    artifact = wandb.Artifact(_name(data.name), type="dataset", metadata=facts)
    # add_reference would read the whole file for a digest of its own, or take the path for the contents.
    entry = ArtifactManifestEntry(path=data.name, ref=Path(data.path).as_uri(), digest=data.digest, size=data.size or 0)
    artifact.manifest.add_entry(entry)
    return artifact
