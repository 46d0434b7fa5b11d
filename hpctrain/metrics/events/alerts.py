"""The events of alerts: something that a user should know while the run goes, and its end."""

from __future__ import annotations

from dataclasses import dataclass

from hpctrain.metrics.events.event import NO_WORDS, Event, Number, Text, shown
from hpctrain.words import Words, format_duration


@dataclass(frozen=True, kw_only=True)
class AlertRaised(Event):
    """Written once when a rule of ``hpctrain/alerts`` begins to hold; `value` is the number that it judged."""

    name = "alert"
    alert: Text
    severity: Text
    text: Text
    value: Number = None

    def describe(self, words: Words = NO_WORDS) -> str:
        return f"ALERT {shown(self.alert)}: {shown(self.text)}"


@dataclass(frozen=True, kw_only=True)
class AlertCleared(Event):
    """Written once when an alert is over; it lasted `seconds`."""

    name = "alert_cleared"
    alert: Text
    text: Text
    seconds: Number

    def describe(self, words: Words = NO_WORDS) -> str:
        lasted = f" after {format_duration(self.seconds)}" if self.seconds is not None else ""
        return f"alert {shown(self.alert)} is over{lasted}: {shown(self.text)}"
