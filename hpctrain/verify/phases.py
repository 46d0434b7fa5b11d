"""Find the part of an attempt that was interrupted, from the lease, the records and ``checkpoints/``."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hpctrain.metrics.events import Event, Finished, Started, read_event
from hpctrain.rundir import RunDir
from hpctrain.verify.plan import Pace


@dataclass
class Follower:
    """Read the records of one attempt while the attempt writes them; read each record once.

    Parameters
    ----------
    run : RunDir
    attempt : int
        Number of its lease, which the attempt may not have taken yet.
    """

    run: RunDir
    attempt: int
    started: Started | None = None
    last_step: int = 0
    evaluated: set[int] = field(default_factory=set)
    events: set[type[Event]] = field(default_factory=set)
    _file: tuple[int, int] = (0, 0)
    _offset: int = 0
    _rest: bytes = b""

    @property
    def made_updates(self) -> bool:
        """Whether the attempt has recorded steps."""
        return self.started is not None and self.last_step > self.started.step

    def has_lease(self) -> bool:
        """Whether the attempt owns the run, which means that its ranks have imported torch and are connected."""
        return (self.run.attempts / f"{self.attempt:04d}.json").exists()

    def saving(self) -> int | None:
        """Return the step whose checkpoint is half written, or None."""
        for path in self.run.checkpoints.glob(f".step-*.{self.attempt:04d}.*"):
            return int(path.name.split(".")[1].removeprefix("step-"))
        return None

    def update(self) -> None:
        """Read the records written since the last call."""
        if not self.has_lease():
            return  # the existing records are those of other attempts, and this attempt may replace them
        try:
            with open(self.run.metrics, "rb") as stream:
                facts = self.run.metrics.stat()
                if (facts.st_dev, facts.st_ino) != self._file:  # the attempt has replaced the file
                    self._file, self._offset, self._rest = (facts.st_dev, facts.st_ino), 0, b""
                    self.evaluated.clear()
                stream.seek(self._offset)
                read = stream.read()
        except FileNotFoundError:
            return
        self._offset += len(read)
        *lines, self._rest = (self._rest + read).split(b"\n")
        for line in lines:
            try:
                self._take(json.loads(line))
            except ValueError:
                continue  # cut off by a kill

    def _take(self, record: dict[str, Any]) -> None:
        if record["kind"] == "eval":
            self.evaluated.add(record["step"])
        if record["attempt"] != self.attempt:
            return
        if record["kind"] == "train":
            self.last_step = max(self.last_step, record["step"])
        elif record["kind"] == "event":
            event = read_event(record)
            self.events.add(type(event))
            if isinstance(event, Started):
                self.started = event
                self.last_step = max(self.last_step, record["step"])

    def phase(self, pace: Pace) -> str:
        """Return the part of the attempt in words, according to its files.

        Parameters
        ----------
        pace : Pace
            Timing of the undisturbed run, with the steps after which it is evaluated.
        """
        self.update()
        if not self.has_lease():
            return "imports, rendezvous"
        if self.started is None:
            return "start: data, checkpoint"
        if Finished in self.events:
            return "report"
        if (step := self.saving()) is not None:
            return f"save of step {step}"
        if self.last_step in pace.evaluated and self.last_step not in self.evaluated:
            return f"evaluation after step {self.last_step}"
        if self.last_step == pace.last_step:
            is_saved = (self.run.checkpoints / f"step-{self.last_step:08d}").is_dir()
            return "writing of the model" if is_saved else f"save of step {self.last_step}"
        if not self.made_updates:
            return f"first step, {self.last_step + 1}"
        return f"step {self.last_step + 1}"
