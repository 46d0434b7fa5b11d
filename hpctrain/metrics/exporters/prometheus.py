"""Export the newest numbers of a run to Prometheus: in a file for node_exporter's textfile collector, or on a port."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from hpctrain.metrics.events import CheckpointSaved
from hpctrain.metrics.events.event import NO_WORDS
from hpctrain.metrics.exporters.exporter import Exporter
from hpctrain.monitor.ledger import read_ledgers, sum_up
from hpctrain.monitor.pace import Level
from hpctrain.rundir import RunDir
from hpctrain.words import Words

_PREFIX = "hpctrain"
_OF_RUN = ("run", "host")
_OF_RANK = ("run", "rank", "host")
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

    Raises
    ------
    ImportError
        prometheus_client is not installed.
    OSError
        The port is taken.
    """

    def __init__(self, run: RunDir, host: str, textfile: str | None, port: int | None, words: Words = NO_WORDS) -> None:
        from prometheus_client import CollectorRegistry, Gauge, start_http_server, write_to_textfile

        self._run, self._gauge, self._write_file = run, Gauge, write_to_textfile
        self._words, self._train = words, _train_metrics(words)
        self._label = f"{run.name}/{run.run_id}"
        self._host = host
        self._textfile = None if textfile is None else Path(textfile.replace("%r", f"{run.name}-{run.run_id}"))
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Any] = {}
        self._server = None if port is None else start_http_server(port, registry=self._registry)[0]

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Export one record of ``metrics.jsonl``."""
        kind = record["kind"]
        self._set("step", "Completed steps.", record["step"])
        if kind == "train":
            for name, text in self._train.items():
                self._set(f"train_{name}", text, record.get(name))
        elif kind == "eval":
            held_out = f"on the held-out {self._words.many}."
            self._set("validation_loss", f"Loss {held_out}", record.get("loss"))
            for metric in self._words.metrics:
                self._set(f"validation_{metric.name}", f"{metric.meaning} {held_out}", record.get(metric.name))
        elif kind == "event" and record.get("event") == CheckpointSaved.name:
            self._set("checkpoint_time_seconds", "Unix time of the newest checkpoint.", record["time"])
        elif kind == "monitor":
            self._ranks()
            if self._textfile is not None:
                self._write()

    def close(self) -> None:
        """Write the file a last time, and close the port."""
        if self._textfile is not None:
            self._write()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _ranks(self) -> None:
        states = read_ledgers(self._run)
        for state in states:
            labels = {"run": self._label, "rank": str(state.rank), "host": state.host}
            for name, value in state.values.items():
                self._set(name, _help(name), value, labels)
            pace = _PACE.get(str(state.values.get("pace")))
            self._set("pace_level", "Pace of the run: 0 ok, 1 warm, 2 hot, 3 critical.", pace, labels)
            self._set("sample_time_seconds", "Unix time at which the sensors were read.", state.time, labels)
        energy = sum_up(states)
        self._set("run_energy_joules", "Energy of all ranks and attempts.", energy.joules)
        self._set("run_energy_unmeasured_seconds", "Time without energy readings.", energy.unmeasured_s)
        self._set("run_rested_seconds", "Time paused to let the machine cool down.", energy.rested_s)

    def _set(self, name: str, text: str, value: Any, labels: dict[str, str] | None = None) -> None:
        if not isinstance(value, Real) or isinstance(value, bool):
            return
        labels = labels or {"run": self._label, "host": self._host}
        full = f"{_PREFIX}_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"
        if full not in self._gauges:
            names = _OF_RANK if "rank" in labels else _OF_RUN
            self._gauges[full] = self._gauge(full, text, names, registry=self._registry)
        self._gauges[full].labels(**labels).set(float(value))

    def _write(self) -> None:
        self._textfile.parent.mkdir(parents=True, exist_ok=True)
        self._write_file(str(self._textfile), self._registry)  # writes a temporary file beside it, then renames it
        with contextlib.suppress(OSError):
            os.chmod(self._textfile, 0o644)  # node_exporter runs as another user


def _train_metrics(words: Words) -> dict[str, str]:
    """Return the help line of each number of a training record, by its name."""
    return {
        "loss": "Loss of the newest recorded step.",
        "samples_per_s": f"{words.many.capitalize()} per second, all ranks.",
        "grad_norm": "Norm of the gradient before clipping.",
        "lr": "Learning rate.",
        "epoch": f"Passes over the training {words.many}.",
    }


def _help(name: str) -> str:
    """Return the help line of a sensor's value; the name ends with the unit."""
    return f"{name.replace('_', ' ').capitalize()}."
