"""The thread that looks at a run every half minute, and says what has begun and what is over."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpctrain.alerts.bell import Bell
from hpctrain.alerts.facts import Facts
from hpctrain.alerts.messenger import Messenger
from hpctrain.alerts.rules import Rule
from hpctrain.credentials.hide import error_line
from hpctrain.metrics.events import AlertRaised, Event
from hpctrain.monitor.raised import read_raised, read_times, write_raised
from hpctrain.profile.sections.alerts import AlertsSection
from hpctrain.rundir import RunDir

MOST_WORK = 50.0
"""The pause between two looks is at least so many times as long as a look takes."""
_JOIN_S = 2.0
"""Longest wait for a look in progress when the run ends [s]."""

_LAST_MESSAGES_S = 8.0
"""Longest wait for the last messages of an attempt, which has saved its state by then [s]."""


class Judge:
    """Ask all rules about a run, again and again.

    Parameters
    ----------
    run : RunDir
    limits : AlertsSection
    rules : sequence of Rule
    file : str
        File of ``monitor/`` that holds what is raised.
    look : callable
        Returns the facts of this moment.
    record : callable
        Is called with each event and the step.
    place : mapping
        What else a message says: host, job, attempt.
    messenger : Messenger, optional
    clock : callable
        Returns the time [s since 1970].
    """

    def __init__(
        self,
        run: RunDir,
        limits: AlertsSection,
        rules: Sequence[Rule],
        file: str,
        look: Callable[[], Facts],
        record: Callable[[Event, int], object],
        place: Mapping[str, Any] | None = None,
        messenger: Messenger | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._run, self._limits, self._file = run, limits, file
        self._look, self._record, self._clock = look, record, clock
        self._place = dict(place or {})
        self._messenger = messenger or Messenger(limits)
        self._bell = Bell(rules, limits, read_raised(run, file), read_times(run, file))
        self._severity = {rule.name: rule.severity for rule in rules}
        self._ends = threading.Event()
        self._has_failed = False
        self._thread = threading.Thread(target=self._judge_until_ended, name="alerts", daemon=True)

    def __enter__(self) -> Judge:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()
        self._messenger.close(_LAST_MESSAGES_S)

    def end(self) -> None:
        """Look no more; what is raised stays raised."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def _judge_until_ended(self) -> None:
        pause_s = self._limits.check_every_s
        while not self._ends.wait(pause_s):
            began_s = time.perf_counter()
            self.check()
            pause_s = max(self._limits.check_every_s, MOST_WORK * (time.perf_counter() - began_s))

    def check(self) -> None:
        """Ask all rules once; an error is printed once, and costs this look only."""
        try:
            self._check()
        except Exception as error:  # an alert must never end a run
            if not self._has_failed:
                self._has_failed = True
                print(f"hpctrain: alerts cannot be judged: {error_line(error)}", file=sys.stderr, flush=True)

    def _check(self) -> None:
        facts, now_s = self._look(), self._clock()
        facts.tape.catch_up()
        events = [self._bell.hear(rule.name, rule.judge(facts), now_s, facts.step) for rule in self._bell.rules]
        if not self._ends.is_set():
            self._say([event for event in events if event is not None], facts.step)

    def clear_all(self, text: str, step: int) -> None:
        """Take back whatever is raised; call it before the thread has begun, or after :meth:`end`."""
        self._say([self._bell.clear(name, text, self._clock()) for name in list(self._bell.raised)], step)

    def _say(self, events: Sequence[Event], step: int) -> None:
        if events:
            write_raised(self._run, self._file, self._bell.raised.values(), self._bell.times)
        for event in events:
            self._messenger.tell(self._message(event, step))
            self._record(event, step)

    def _message(self, event: Event, step: int) -> dict[str, Any]:
        alert = getattr(event, "alert", "")
        run = f"{self._run.name}/{self._run.run_id}"
        return {
            "text": f"{run}: {event.describe()}",
            "alert": alert,
            "state": "raised" if isinstance(event, AlertRaised) else "cleared",
            "severity": self._severity.get(alert, ""),
            "seen": getattr(event, "text", ""),
            "value": getattr(event, "value", None),
            "seconds": getattr(event, "seconds", None),
            "run": run,
            "run_dir": str(self._run.path),
            "step": step,
            "time": round(self._clock(), 3),
            **self._place,
        }
