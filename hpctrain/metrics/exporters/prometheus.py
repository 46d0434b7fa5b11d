"""Export the newest numbers of a run to Prometheus: in a file for node_exporter's textfile collector, or on a port."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from hpctrain.metrics.events import (
    AlertCleared,
    AlertRaised,
    CheckpointSaved,
    Event,
    Failed,
    Started,
    read_event,
)
from hpctrain.metrics.events.event import NO_WORDS
from hpctrain.metrics.exporters.exporter import Exporter
from hpctrain.metrics.exporters.series import ACTIVE_ALERT, ALL, OF_TRAINING, Series, of_metric, of_sensor
from hpctrain.monitor.ledger import read_ledgers, sum_up
from hpctrain.monitor.pace import Level
from hpctrain.monitor.raised import OF_TRAINER, read_raised
from hpctrain.rundir import RunDir
from hpctrain.words import Words

_PACE = {level.word: int(level) for level in Level}


class PrometheusExporter(Exporter):
    """Export the newest numbers of a run; rank 0 reports for all ranks, from their files in the run directory.

    Parameters
    ----------
    run : RunDir
    host : str
        Host of this rank.
    textfile : str or None
        File to write with each sample, whole or not at all; its name must end in ``.prom``. The run's name and id
        replace ``%r`` in it, so that several runs on a node do not write the same file.
    port : int or None
        Port to serve on.
    words : Words
        What users call the samples and metrics of the run.
    checkpoint_every_steps : int, optional
        Steps between two checkpoints.

    Raises
    ------
    ImportError
        prometheus_client is not installed.
    OSError
        The port is taken.
    """

    def __init__(
        self,
        run: RunDir,
        host: str,
        textfile: str | None,
        port: int | None,
        words: Words = NO_WORDS,
        checkpoint_every_steps: int | None = None,
    ) -> None:
        from prometheus_client import CollectorRegistry, Gauge, start_http_server, write_to_textfile

        self._run, self._gauge, self._write_file = run, Gauge, write_to_textfile
        self._words = words
        self._metrics = [of_metric(metric.name, metric.meaning) for metric in words.metrics]
        self._of_run = {"run": f"{run.name}/{run.run_id}", "host": host}
        self._textfile = None if textfile is None else Path(textfile.replace("%r", f"{run.name}-{run.run_id}"))
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Any] = {}
        self._severities: dict[str, set[str]] = {}
        self._last_step = -1
        self._last_train: tuple[float, int] | None = None
        self._server = None if port is None else start_http_server(port, registry=self._registry)[0]
        self._set("training", 1)
        self._set("failed", 0)
        self._set("checkpoint_every_steps", checkpoint_every_steps)
        for raised in read_raised(run, OF_TRAINER):
            self._set_alert(raised.alert, raised.severity, 1)

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Export one record of ``metrics.jsonl``."""
        kind = record["kind"]
        self._set("step", record["step"])
        if record["step"] != self._last_step:
            self._last_step = record["step"]
            self._set("step_timestamp_seconds", record["time"])
        if kind == "train":
            self._train(record)
        elif kind == "eval":
            self._set("validation_loss", record.get("loss"))
            for metric in self._metrics:
                self._put(metric, record.get(metric.source))
        elif kind == "event":
            self._event(read_event(record))
        elif kind == "monitor":
            self._ranks()
            if self._textfile is not None:
                self._write()

    def close(self) -> None:
        """Write the file a last time, and close the port."""
        self._set("training", 0)
        if self._textfile is not None:
            self._write()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _train(self, record: Mapping[str, Any]) -> None:
        for each in OF_TRAINING:
            if each.source:
                value = record.get(each.source)
                self._put(each, float(value) if isinstance(value, bool) else value)
        now = (float(record["time"]), int(record["step"]))
        if self._last_train is not None and now[1] > self._last_train[1]:
            self._set("step_duration_seconds", (now[0] - self._last_train[0]) / (now[1] - self._last_train[1]))
        self._last_train = now

    def _event(self, event: Event) -> None:
        if isinstance(event, Started):
            self._set("total_steps", event.total_steps)
            self._set("attempt", event.attempt)
        elif isinstance(event, CheckpointSaved):
            self._set("checkpoint_timestamp_seconds", event.time_s)
            self._set("checkpoint_step", event.step)
        elif isinstance(event, Failed):
            self._set("failed", 1)
            self._set("training", 0)
            if self._textfile is not None:
                self._write()
        elif isinstance(event, AlertRaised):
            self._set_alert(event.alert or "", event.severity or "", 1)
        elif isinstance(event, AlertCleared):
            for raised in self._severities.get(event.alert or "", ()):
                self._set_alert(event.alert or "", raised, 0)

    def _set_alert(self, alert: str, severity: str, value: int) -> None:
        self._severities.setdefault(alert, set()).add(severity)
        self._put(ACTIVE_ALERT, value, {**self._of_run, "alert": alert, "severity": severity})

    def _ranks(self) -> None:
        states = read_ledgers(self._run)
        for state in states:
            labels = {"run": self._of_run["run"], "rank": str(state.rank), "host": state.host}
            for name, value in state.values.items():
                if (found := of_sensor(name)) is not None:
                    self._put(found[0], value, {**labels, **found[1]})
            self._set("pace_level", _PACE.get(str(state.values.get("pace"))), labels)
            self._set("sample_timestamp_seconds", state.time, labels)
        energy = sum_up(states)
        self._set("run_energy_joules", energy.joules)
        self._set("run_energy_unmeasured_seconds", energy.unmeasured_s)
        self._set("run_rested_seconds", energy.rested_s)

    def _set(self, key: str, value: Any, labels: dict[str, str] | None = None) -> None:
        self._put(ALL[key], value, labels)

    def _put(self, each: Series, value: Any, labels: dict[str, str] | None = None) -> None:
        if not isinstance(value, Real) or isinstance(value, bool):
            return
        if each.key not in self._gauges:
            text = each.help(self._words)
            self._gauges[each.key] = self._gauge(each.name, text, each.labels, registry=self._registry)
        self._gauges[each.key].labels(**(labels or self._of_run)).set(float(value) * each.factor)

    def _write(self) -> None:
        self._textfile.parent.mkdir(parents=True, exist_ok=True)
        self._write_file(str(self._textfile), self._registry)  # writes a temporary file beside it, then renames it
        with contextlib.suppress(OSError):
            os.chmod(self._textfile, 0o644)  # node_exporter runs as another user
