"""The section of the report that lists the alerts of the run."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from hpctrain.drawing.table import table
from hpctrain.metrics.events import AlertCleared, AlertRaised
from hpctrain.monitor.raised import OF_JOB, read_raised
from hpctrain.report.document import moment
from hpctrain.report.gather import RunFacts
from hpctrain.report.text import cut
from hpctrain.words import format_duration

MOST_ROWS = 60
"""Largest number of alerts to list; of more, the newest."""
STILL = "still raised"


@dataclass(frozen=True)
class Alert:
    """An alert, and how it ended: after a time, or not at all."""

    name: str
    severity: str
    text: str
    since_s: float
    lasted: str


def list_alerts(facts: RunFacts) -> list[Alert]:
    """Return the alerts of a run, oldest first: those on record, and those raised from outside of its ranks."""
    found: list[Alert] = []
    for event in facts.history.events:
        if isinstance(event, AlertRaised):
            found.append(Alert(event.alert or "", event.severity or "", event.text or "", event.time_s, STILL))
        elif isinstance(event, AlertCleared):
            _end(found, event)
    found += [Alert(one.alert, one.severity, one.text, one.since_s, STILL) for one in read_raised(facts.run, OF_JOB)]
    return sorted(found, key=lambda alert: alert.since_s)


def _end(found: list[Alert], event: AlertCleared) -> None:
    """Note the end of the newest alert of this name."""
    lasted = "" if event.seconds is None else format_duration(event.seconds)
    for index in reversed(range(len(found))):
        alert = found[index]
        if alert.name == event.alert and alert.lasted == STILL:
            found[index] = Alert(alert.name, alert.severity, alert.text, alert.since_s, lasted)
            return


def alerts_section(facts: RunFacts) -> str:
    """Return the alerts of a run as HTML; empty if there was none."""
    alerts = list_alerts(facts)
    rows = [
        [
            f"{escape(alert.name)}<small>{escape(alert.severity)}</small>",
            escape(moment(alert.since_s)),
            escape(alert.lasted),
            escape(cut(alert.text, 400)),
        ]
        for alert in alerts[-MOST_ROWS:]
    ]
    left = len(alerts) - len(rows)
    note = f'<p class="note">{left} older alerts are not shown.</p>' if left else ""
    return f"{table(['Alert', 'Raised', 'Lasted', 'Seen'], rows)}{note}" if rows else ""
