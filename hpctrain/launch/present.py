"""Format the status of a run as a line, a block or a table. rich draws tables on a terminal; a pipe gets columns."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpctrain.launch.status import RunStatus
from hpctrain.monitor.raised import Raised
from hpctrain.states import FAILED, FINISHED, LOST, PENDING, RUNNING, UNREADABLE
from hpctrain.terminal import console, printable, terminal_columns
from hpctrain.words import format_bytes, format_number, format_short_duration


def as_typed(path: Path) -> str:
    """Return a path as a user would type it from here."""
    inside = path.is_relative_to(Path.cwd())
    return shlex.quote(str(path.relative_to(Path.cwd()) if inside else path))


def steps(status: RunStatus) -> str:
    """Format the progress as ``1,200/40,000 (3 %)``."""
    if not status.total_steps:
        return f"{status.step:,}" if status.step else "-"
    return f"{status.step:,}/{status.total_steps:,} ({100 * status.step / status.total_steps:.0f} %)"


def progress_line(status: RunStatus) -> str:
    """Return the status in one line."""
    parts = [f"{status.run.name}/{status.run.run_id}: {status.state}"]
    if status.detail and status.state != RUNNING:
        parts[0] += f" ({status.detail})"
    if status.step:
        parts.append(f"step {steps(status)}")
    if status.loss is not None:
        parts.append(f"loss {status.loss:.4g}")
    if status.state == RUNNING and status.samples_per_s:
        parts.append(f"{status.samples_per_s:,.0f} {status.words.many}/s")
    if status.num_attempts > 1:
        parts.append(f"attempt {status.num_attempts}")
    return ", ".join(parts)


def alert_text(alert: Raised, now: float) -> str:
    """Return an alert in one line; `now` is the current time [s since 1970]."""
    severity = alert.severity.upper() if alert.severity == "critical" else alert.severity
    since = format_short_duration(max(0.0, now - alert.since_s))
    return f"{severity} {alert.alert}: {printable(alert.text)} ({since} ago)"


def block(status: RunStatus) -> str:
    """Return everything known about one run, one fact per line."""
    now = time.time()
    rows = [
        ("run", str(status.run.path)),
        ("state", status.state + (f" ({status.detail})" if status.detail else "")),
        ("according to", status.source),
        ("job id", status.job_id or "-"),
        ("step", steps(status)),
        ("loss", format_number(status.loss, "-")),
        ("validation loss", format_number(status.validation_loss, "-")),
        ("speed", f"{status.samples_per_s:,.0f} {status.words.many}/s" if status.samples_per_s else "-"),
        ("time left", format_short_duration(status.eta_s) if status.eta_s is not None else "-"),
        ("attempts", str(status.num_attempts)),
        ("checkpoint", status.checkpoint),
        (
            "heartbeat",
            f"{format_short_duration(status.heartbeat_age_s)} ago" if status.heartbeat_age_s is not None else "-",
        ),
    ]
    if status.exit_code is not None:
        rows.append(("exit code", str(status.exit_code)))
    if status.machine:
        rows.append(("machine", status.machine))
    rows += [("alert", alert_text(one, now)) for one in status.alerts]
    if status.bad_data:
        rows.append(("bad data", status.bad_data))
    rows += [("gate failed", text) for text in status.failed_gates]
    rows += [("warning", text) for text in status.warnings]
    rows += [("note", text) for text in status.notes]
    if status.avoided_nodes:
        rows.append(("avoids nodes", f"{', '.join(status.avoided_nodes)} (attempts/bad-nodes.tsv)"))
    rows += [("could not ask", reason) for reason in status.silent]
    return "\n".join(f"{name:<16}{value}" for name, value in rows)


def as_json(status: RunStatus) -> dict[str, Any]:
    """Return the status with the path of the run, ready for JSON."""
    fields = {field.name: getattr(status, field.name) for field in dataclasses.fields(status)}
    fields["alerts"] = [dataclasses.asdict(one) for one in status.alerts]
    fields["failed_gates"] = status.failed_gates
    return {**fields, "run": str(status.run.path), "name": status.run.name, "run_id": status.run.run_id}


@dataclasses.dataclass(frozen=True)
class RunOnDisk:
    """A run as ``hpctrain list`` shows it.

    Parameters
    ----------
    status : RunStatus
    age_s : float
        Time since the run was first submitted [s].
    size : int
        Size of all its files [byte].
    """

    status: RunStatus
    age_s: float
    size: int


_DROPPED = ("source", "attempts", "left", "job id", "size", "loss", "age")
"""Columns that a narrow terminal does not show, the first one first; ``hpctrain status`` and --json have them."""
_COLUMNS = ("name", "run id", "state", "job id", "step", "loss", "left", "attempts", "age", "size", "source")
STYLES = {
    RUNNING: "green",
    FINISHED: "bold green",
    FAILED: "red",
    LOST: "red",
    UNREADABLE: "red",
    PENDING: "yellow",
}
"""Colours of states."""


def print_table(runs: Sequence[RunOnDisk]) -> None:
    """Print one run per line; a terminal shows as many columns as it has room for."""
    rows = [_row(one) for one in runs]
    if sys.stdout.isatty():
        from rich.table import Table
        from rich.text import Text

        screen = console(width=terminal_columns())
        shown = _fitting([_COLUMNS, *rows], screen.width)
        table = Table(*(_COLUMNS[place] for place in shown), box=None, pad_edge=False)
        for row in rows:
            cells = [printable(row[place]) for place in shown]
            table.add_row(*(Text(cell, style=STYLES.get(cell.partition(" !")[0], "")) for cell in cells))
        screen.print(table)
        return
    lines = [_COLUMNS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _fitting(lines: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the places of the columns that fit, side by side with two blanks between them."""
    widths = [max(len(printable(line[place])) for line in lines) for place in range(len(_COLUMNS))]
    shown = list(range(len(_COLUMNS)))
    for name in _DROPPED:
        if sum(widths[place] + 2 for place in shown) - 2 <= width:
            break
        shown.remove(_COLUMNS.index(name))
    return shown


def _mark(status: RunStatus) -> str:
    """Return the number of alerts of a run that goes on, behind an exclamation mark; empty if there is none."""
    return f" !{len(status.alerts)}" if status.alerts and status.is_active else ""


def _row(one: RunOnDisk) -> tuple[str, ...]:
    status = one.status
    return (
        status.run.name,
        status.run.run_id,
        status.state + _mark(status),
        status.job_id or "-",
        steps(status),
        format_number(status.loss, "-"),
        format_short_duration(status.eta_s) if status.eta_s is not None else "-",
        str(status.num_attempts),
        format_short_duration(one.age_s),
        format_bytes(one.size),
        status.source,
    )
