"""Turn verdicts into alerts: each is raised once and is over once, and one that comes again and again gets slower."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpctrain.alerts.rules import Rule
from hpctrain.alerts.verdict import Verdict
from hpctrain.metrics.events import AlertCleared, AlertRaised, Event
from hpctrain.monitor.raised import Raised
from hpctrain.profile.sections.alerts import AlertsSection

REMEMBERED_S = 86400.0
"""How long it counts that an alert was raised before [s]."""
_MOST_DOUBLINGS = 6
_LONGEST_TEXT = 300


@dataclass
class _Since:
    """Since when the verdicts of one rule have been bad, or well [s]."""

    bad_s: float | None = None
    well_s: float | None = None


class Bell:
    """The alerts of one judge.

    Parameters
    ----------
    rules : sequence of Rule
    limits : AlertsSection
    raised : iterable of Raised
        Alerts that an earlier attempt has left raised.
    times : mapping
        When each alert was raised before [s since 1970], by name.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        limits: AlertsSection,
        raised: Iterable[Raised] = (),
        times: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._rules = {rule.name: rule for rule in rules if rule.name not in limits.off}
        self._limits = limits
        self.raised = {one.alert: one for one in raised if one.alert in self._rules}
        self.times = {name: list(moments) for name, moments in (times or {}).items() if name in self._rules}
        self._since = {name: _Since() for name in self._rules}

    @property
    def rules(self) -> list[Rule]:
        """The rules that are not off."""
        return list(self._rules.values())

    def hear(self, name: str, verdict: Verdict, now_s: float, step: int) -> Event | None:
        """Hear a verdict; return the event if an alert is raised or is over by it.

        Parameters
        ----------
        name : str
            Name of the rule.
        verdict : Verdict
        now_s : float
            Current time [s since 1970].
        step : int
            Last step done.
        """
        since = self._since[name]
        since.bad_s = (since.bad_s if since.bad_s is not None else now_s) if verdict.is_bad else None
        since.well_s = (since.well_s if since.well_s is not None else now_s) if verdict.is_well else None
        rule = self._rules[name]
        if name not in self.raised:
            is_due = since.bad_s is not None and now_s - since.bad_s >= rule.hold_s(self._limits)
            return self._raise(rule, verdict, now_s, step) if is_due else None
        is_over = since.well_s is not None and now_s - since.well_s >= self._quiet_s(rule, now_s)
        return self.clear(name, verdict.text, now_s) if is_over else None

    def clear(self, name: str, text: str, now_s: float) -> AlertCleared:
        """Take an alert back, and return its event."""
        gone = self.raised.pop(name)
        seconds = round(max(0.0, now_s - gone.since_s), 1)
        return AlertCleared(alert=name, text=text[:_LONGEST_TEXT], seconds=seconds)

    def _raise(self, rule: Rule, verdict: Verdict, now_s: float, step: int) -> AlertRaised:
        text, value = verdict.text[:_LONGEST_TEXT], verdict.value
        self.raised[rule.name] = Raised(rule.name, rule.severity, text, now_s, step, value)
        recent = [moment for moment in self.times.get(rule.name, []) if now_s - moment < REMEMBERED_S]
        self.times[rule.name] = [*recent, now_s][-2 * _MOST_DOUBLINGS :]
        return AlertRaised(alert=rule.name, severity=rule.severity, text=text, value=value)

    def _quiet_s(self, rule: Rule, now_s: float) -> float:
        """Return how long the verdicts must be well: longer each time that the alert was raised within a day."""
        before = sum(now_s - moment < REMEMBERED_S for moment in self.times.get(rule.name, [])) - 1
        return min(rule.quiet_s, 4 * self._limits.check_every_s) * 2.0 ** min(max(0, before), _MOST_DOUBLINGS)
