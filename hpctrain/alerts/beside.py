"""``python -m hpctrain.alerts.beside RUN_DIR JOB RESTART``: what watches an attempt from outside of its ranks.

A rank that is stopped, or whose node has lost its file system, cannot say so itself, and no rank can say that the run
has ended. So the batch script, the supervisor of a local run and the first process of a container start this command
beside the ranks, if there is a command or a webhook for alerts. It reads heartbeats and the table of ended attempts,
and ends by itself when the attempt is in that table.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from hpctrain.access import enter
from hpctrain.alerts.facts import Facts
from hpctrain.alerts.judge import Judge
from hpctrain.alerts.look import end_of
from hpctrain.alerts.messenger import Messenger
from hpctrain.alerts.rules import RULES
from hpctrain.metrics.events import Event
from hpctrain.monitor.raised import OF_JOB
from hpctrain.profile.sections.alerts import AlertsSection
from hpctrain.rundir import RunDir
from hpctrain.states import ENDED_BEATS
from hpctrain.terminal import printable

START_UP_S = 600.0
"""Longest time from the start of an attempt to the first heartbeat that is nothing unusual [s]."""
_POLL_S = 0.5
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def watch(run: RunDir, job_id: str, restart: int, messenger: Messenger, limits: AlertsSection) -> None:
    """Watch one attempt until it is in the table of ended attempts.

    Parameters
    ----------
    run : RunDir
    job_id : str
    restart : int
        Number of requeues of this job before this attempt.
    messenger : Messenger
    limits : AlertsSection
    """
    began_s = time.time()

    def look() -> Facts:
        return facts_from_outside(run, job_id, restart, limits, began_s)

    def record(event: Event, step: int) -> None:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} hpctrain: {printable(event.describe())}", flush=True)

    rules = [rule for rule in RULES if rule.of_job]
    place = {"host": socket.gethostname(), "job_id": job_id}
    ends = threading.Event()
    judge = Judge(run, limits, rules, OF_JOB, look, record, place, messenger)
    judge.clear_all("another attempt has begun", look().step)
    with judge:
        while end_of(run, job_id, restart) is None and not ends.wait(_POLL_S):
            pass
        judge.check()


def facts_from_outside(
    run: RunDir, job_id: str, restart: int, limits: AlertsSection, began_s: float, now_s: float | None = None
) -> Facts:
    """Return what heartbeats and the table of ended attempts say.

    Parameters
    ----------
    run : RunDir
    job_id : str
    restart : int
    limits : AlertsSection
    began_s : float
        When the attempt began [s since 1970]; older heartbeats are those of earlier attempts.
    now_s : float, optional
        Current time [s since 1970].
    """
    now_s = time.time() if now_s is None else now_s
    beats = [beat for beat in run.read_heartbeats() if beat.get("time", 0.0) >= began_s]
    living = [beat for beat in beats if beat.get("state") not in ENDED_BEATS]
    newest_s = max((beat["time"] for beat in beats), default=began_s + START_UP_S)
    followed, code = end_of(run, job_id, restart) or ("", 0)
    steps = [beat.get("step", 0) for beat in run.read_heartbeats()]
    return Facts(
        limits=limits,
        step=max(steps, default=0),
        beat_age_s=now_s - newest_s if living or not beats else None,
        beat_interval_s=max((beat.get("interval_s", 10.0) for beat in beats), default=10.0),
        ended=followed,
        exit_code=code,
    )


def limits_of(run: RunDir) -> AlertsSection:
    """Return ``monitor.alerts`` of a run's profile, which was checked before; the defaults if it cannot be read."""
    import yaml

    try:
        document: Mapping[str, Any] = yaml.safe_load(run.profile.read_text(encoding="utf-8"))
        return AlertsSection.model_validate(document.get("monitor", {}).get("alerts", {}))
    except (OSError, ValueError, yaml.YAMLError, AttributeError):
        return AlertsSection()


def main(arguments: list[str]) -> int:
    """Watch the attempt that the arguments name; end at once if nobody would hear of an alert."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)  # they are for the ranks; the end of the attempt ends this process
    run = RunDir(arguments[0])
    limits = limits_of(run)
    messenger = Messenger(limits)
    if not limits.enabled or not messenger.has_hearers:
        return 0
    enter(run.path)
    os.nice(10)
    watch(run, arguments[1], int(arguments[2]), messenger, limits)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
