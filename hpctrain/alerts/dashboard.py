"""Write a dashboard for Grafana from the list of metrics that the exporter has, and the list of alerts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hpctrain.metrics.exporters.series import ACTIVE_ALERT, series

SCHEMA_VERSION = 39
"""Version of the schema of dashboards, that of Grafana 11; newer ones bring it up to date when they read it."""
UID = "hpctrain-runs"
_COLUMNS, _HEIGHT = 24, 8
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_CHOSEN = '{run=~"$run"}'


@dataclass(frozen=True)
class Panel:
    """One panel: a title, a unit of Grafana, and the expressions with the legends of their lines."""

    title: str
    unit: str
    lines: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    width: int = 8
    text: str = ""


def _chosen(key: str) -> str:
    return f"{series(key)}{_CHOSEN}"


_RUN, _RANK = "{{run}}", "{{run}} rank {{rank}}"
PANELS: Sequence[Panel] = (
    Panel(
        "Alerts", "none", [(f"{ACTIVE_ALERT.name}{_CHOSEN} == 1", "{{run}}: {{alert}} ({{severity}})")], "table", 12,
        "Alerts that hpctrain has raised",
    ),
    Panel("Progress", "percentunit", [(f"{_chosen('step')} / {_chosen('total_steps')}", _RUN)], "bargauge", 12),
    Panel("Training loss", "none", [(_chosen("train_loss"), _RUN)]),
    Panel("Held-out loss", "none", [(_chosen("validation_loss"), _RUN)]),
    Panel("Gradient norm", "none", [(_chosen("train_gradient_norm"), _RUN)]),
    Panel("Speed", "none", [(_chosen("train_samples_per_second"), _RUN)], text="Samples per second, all ranks"),
    Panel("Waiting for data", "percentunit", [(_chosen("train_data_wait_ratio"), _RUN)]),
    Panel("Age of the checkpoint", "s", [(f"time() - {_chosen('checkpoint_timestamp_seconds')}", _RUN)]),
    Panel("Use of the GPUs", "percentunit", [(_chosen("gpu_utilisation_ratio"), _RANK)]),
    Panel("Memory of the GPUs", "bytes", [(_chosen("gpu_memory_used_bytes"), _RANK)]),
    Panel("Temperature of the GPUs", "celsius", [(_chosen("gpu_temperature_celsius"), _RANK)]),
    Panel(
        "Power", "watt",
        [(_chosen("gpu_power_watts"), f"{_RANK}: GPU"), (_chosen("board_power_watts"), f"{_RANK}: board")],
    ),
    Panel("Slowed down by heat", "none", [(_chosen("gpu_throttled_by_heat"), _RANK), (_chosen("pace_level"), _RANK)]),
    Panel("Memory that is available", "bytes", [(_chosen("memory_available_bytes"), _RANK)]),
    Panel("Energy", "joule", [(_chosen("run_energy_joules"), _RUN)]),
    Panel("Learning rate", "none", [(_chosen("train_learning_rate"), _RUN)]),
    Panel("Age of the newest readings", "s", [(f"time() - {_chosen('sample_timestamp_seconds')}", _RANK)]),
)  # fmt: skip


def dashboard_file() -> str:
    """Return the text of a dashboard; Grafana asks for the data source when it imports it."""
    return json.dumps(_dashboard(), indent=2) + "\n"


def _dashboard() -> dict[str, Any]:
    panels, x, y = [], 0, 0
    for number, panel in enumerate(PANELS, start=1):
        if x + panel.width > _COLUMNS:
            x, y = 0, y + _HEIGHT
        panels.append(_panel(panel, number, {"h": _HEIGHT, "w": panel.width, "x": x, "y": y}))
        x += panel.width
    return {
        "uid": UID,
        "title": "hpctrain runs",
        "tags": ["hpctrain"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": panels,
    }


def _variables() -> list[dict[str, Any]]:
    query = f"label_values({series('step')}, run)"
    return [
        {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {
            "name": "run",
            "label": "run",
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": "runs"},
            "definition": query,
            "refresh": 2,  # when the range of time changes
            "multi": True,
            "includeAll": True,
            "sort": 2,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        },
    ]


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    is_instant = panel.kind != "timeseries"
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": _SOURCE,
            "expr": expression,
            "legendFormat": legend,
            "editorMode": "code",
            "instant": is_instant,
            "range": not is_instant,
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for index, (expression, legend) in enumerate(panel.lines)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "gridPos": place,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "noValue": "none"}, "overrides": []},
        "options": _options(panel.kind),
        "targets": targets,
    }


def _options(kind: str) -> dict[str, Any]:
    if kind == "timeseries":
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if kind == "bargauge":
        reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        return {"reduceOptions": reduced, "orientation": "horizontal", "displayMode": "basic"}
    return {"showHeader": True, "cellHeight": "sm"}
