"""Keep a copy of a run in Weights & Biases, online or in files to be synced later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpctrain.errors import EXIT_BUG, EXIT_FINISHED, EXIT_REQUEUE
from hpctrain.metrics.events import Failed, Finished, Started, Stopped, read_event
from hpctrain.metrics.exporters.facts import tags_of
from hpctrain.metrics.exporters.mark import Mark
from hpctrain.metrics.exporters.numbers import numbers_of
from hpctrain.metrics.exporters.tracker import Tracker, TrackingError, read_track, write_track
from hpctrain.profile.resume import plain
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.outputs import WandbSection
from hpctrain.records import Record
from hpctrain.rundir import RunDir

_LONGEST_ID = 64
_UPLOAD_TIMEOUT_S = 50.0
_ENDS = {Started: EXIT_REQUEUE, Stopped: EXIT_REQUEUE, Failed: EXIT_BUG, Finished: EXIT_FINISHED}
"""Event to the exit code that it implies."""
_KINDS = ("train", "eval", "monitor", "figures")


class WandbTracker(Tracker):
    """Keep a copy of a run in W&B.

    W&B's client takes rows over at once, writes them to a file in the ``wandb`` folder of the run directory, and
    uploads them in a process of its own. So the mark is in ``track/wandb.json`` and says what the client has taken
    over. A row has the number of its record in the run; W&B ignores a row whose number it has.

    Parameters
    ----------
    run : RunDir
    profile : Profile
    section : WandbSection
    timeout_s : int
        Longest time to wait for an answer at the beginning [s].
    """

    name = "wandb"

    def __init__(self, run: RunDir, profile: Profile, section: WandbSection, timeout_s: int = 30) -> None:
        self._run, self._profile, self._section, self._timeout_s = run, profile, section, timeout_s
        self.artifacts = section.artifacts
        self._project = section.project or profile.name
        self._wandb_run: Any = None
        self._place = f"{section.mode}:{section.entity or ''}/{self._project}"
        self._figures: dict[str, list[int]] = {}

    def open(self) -> Mark:
        """Return what W&B's client has taken over; the client starts with the first record that is new."""
        kept = read_track(self._run, self.name).get(self._place)
        kept = kept if isinstance(kept, dict) else {}
        known_id, received, figures = (kept.get(name) for name in ("id", "received", "figures"))
        self._figures = figures if isinstance(figures, dict) else {}
        self._id = known_id if isinstance(known_id, str) else f"{self._run.name[:40]}-{self._run.run_id}"[:_LONGEST_ID]
        return Mark.from_json(received if isinstance(received, str) else None)

    def _client(self) -> Any:
        """Return W&B's run, which is made, or opened again, by the first call."""
        if self._wandb_run is not None:
            return self._wandb_run
        try:
            import wandb
        except ImportError as error:
            raise TrackingError(f"wandb: {error}; install it with: pip install 'hpctrain[wandb]'") from error
        self._wandb_run = wandb.init(
            project=self._project,
            entity=self._section.entity,
            id=self._id,
            name=self._run.run_id,
            notes=self._profile.description or None,
            resume="allow",
            mode=self._section.mode,
            dir=str(self._run.path),
            config={**plain(self._profile), "provenance": tags_of(self._run)},
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
