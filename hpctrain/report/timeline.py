"""The time line: how far the run had come, when it waited, why it stopped, what was done twice."""

from __future__ import annotations

import itertools

import numpy as np

from hpctrain.metrics.progress import format_duration
from hpctrain.report.attempts import Attempt
from hpctrain.report.curves import WIDE
from hpctrain.report.gather import RunFacts
from hpctrain.report.scale import grouped
from hpctrain.report.svg import Axes, drawing, legend, standalone

OUTCOME_CSS = {
    "finished": "good",
    "running": "busy",
    "stopped": "held",
    "failed": "bad",
    "diverged": "bad",
    "killed": "bad",
}
_SHOWN = "Steps done against time, and the attempts below"
_LEFT, _RIGHT = 62, 26
_LEAST_LABEL = 22.0


def timeline_figure(facts: RunFacts) -> str:
    """Draw steps against time since submission, and below it one bar for each attempt; empty without attempts."""
    axes = _timeline(facts)
    return legend(_entries(facts.attempts)) + drawing(WIDE, 312, axes, _SHOWN) if axes else ""


def timeline_document(facts: RunFacts) -> str:
    """Return the same drawing as an SVG file that stands alone; empty without attempts."""
    axes = _timeline(facts)
    title = f"{facts.run.name}: updates done against time, and the attempts below"
    return standalone(WIDE, 312, axes, title, _entries(facts.attempts)) if axes else ""


def _timeline(facts: RunFacts) -> list[Axes]:
    attempts = facts.attempts
    if not attempts:
        return []
    origin = min(facts.submitted_at or attempts[0].started_at, attempts[0].started_at)
    end = max(attempt.ended_at for attempt in attempts)
    if facts.total_steps > facts.step and attempts[-1].outcome == "stopped":
        end = max(end, facts.now)
    limits = (0.0, max(1.0, (end - origin) * 1.005))
    highest = max(1, facts.total_steps, *(attempt.last_step for attempt in attempts))
    steps = Axes(_LEFT, 30, WIDE - _LEFT - _RIGHT, 190, limits, (0, highest * 1.06), x_kind="time")
    steps.add_grid("", "update", 10, 4)
    if facts.total_steps:
        steps.horizontal(facts.total_steps, "reference")
    bars = Axes(_LEFT, 236, WIDE - _LEFT - _RIGHT, 26, limits, (0, 1), x_kind="time")
    _draw_axis(bars)
    waited_from = origin
    for attempt, following in zip(attempts, [*attempts[1:], None], strict=True):
        _draw_waiting(bars, waited_from - origin, attempt.started_at - origin)
        _draw_attempt(steps, bars, attempt, following, origin)
        waited_from = attempt.ended_at
    if end > waited_from:
        _draw_waiting(bars, waited_from - origin, end - origin)
    _draw_losses(steps, attempts, origin)
    return [steps, bars]


def _draw_axis(bars: Axes) -> None:
    bottom = bars.top + bars.height + 6
    for value, label in bars.x.ticks(10):
        bars.text(float(bars.x.place(value)), bottom + 15, label, "tick", "middle")
    bars.text(bars.left + bars.width, bottom + 33, "time since submission", "label", "end")


def _draw_waiting(bars: Axes, start: float, end: float) -> None:
    if end - start > 0.002 * (bars.x.high - bars.x.low):
        bars.bar(start, end, 0.3, 0.7, "waiting", f"waited {format_duration(end - start)}")


def _draw_attempt(steps: Axes, bars: Axes, attempt: Attempt, following: Attempt | None, origin: float) -> None:
    title = (
        f"attempt {attempt.number}: {attempt.outcome} after {format_duration(attempt.seconds)} "
        f"at step {attempt.last_step} ({attempt.cause})"
    )
    start, end = attempt.started_at - origin, attempt.ended_at - origin
    bars.bar(start, end, 0, 1, f"attempt {OUTCOME_CSS[attempt.outcome]}", title)
    left, right = float(bars.x.place(start)), float(bars.x.place(end))
    if right - left > _LEAST_LABEL:
        bars.text((left + right) / 2, bars.top + bars.height / 2 + 4.5, str(attempt.number), "bar-label", "middle")
    if attempt.progress:
        times = np.array([time for time, _ in attempt.progress]) - origin
        steps.line(times, np.array([step for _, step in attempt.progress], dtype=np.float64), "c1", "update")
    saved = {int(checkpoint["step"]) for checkpoint in attempt.checkpoints}
    if following is not None and attempt.first_step < following.first_step <= attempt.last_step:
        saved.add(following.first_step)  # written, and the attempt was killed before it could say so
    if saved and attempt.progress:
        done = np.array(sorted(saved), dtype=np.float64)
        done = done[:: max(1, len(done) // 200)]  # more would be a solid line
        # an asynchronous checkpoint is recorded when it is found to be done; it holds the state of its step's time
        marks = sorted((step, time) for time, step in attempt.progress)
        times = np.interp(done, [step for step, _ in marks], [time - origin for _, time in marks])
        steps.dots(times, done, "c3", 2.6)


def _draw_losses(steps: Axes, attempts: list[Attempt], origin: float) -> None:
    """Drop a line from where an attempt was cut off to the step the next one began at."""
    for attempt, following in itertools.pairwise(attempts):
        if attempt.steps_lost and following.progress:
            x = np.array([attempt.ended_at, following.started_at]) - origin
            steps.line(x, np.array([attempt.last_step, following.first_step], dtype=np.float64), "lost")
            place = float(steps.x.place(x[0])), float(steps.y.place(attempt.last_step))
            label = f"{grouped(attempt.steps_lost)} steps lost"
            anchor = "end" if place[0] > steps.left + 0.3 * steps.width else "start"
            steps.text(place[0] + (-7 if anchor == "end" else 7), place[1] - 7, label, "mark", anchor)


def _entries(attempts: list[Attempt]) -> list[tuple[str, str]]:
    entries = [("line c1", "updates done")]
    if any(attempt.checkpoints for attempt in attempts):
        entries.append(("dot c3", "checkpoint"))
    if any(attempt.steps_lost for attempt in attempts):
        entries.append(("line lost", "lost, done again"))
    names = {
        "good": "finished", "busy": "running", "held": "stopped and saved", "bad": "failed or killed",
    }  # fmt: skip
    shown = {OUTCOME_CSS[attempt.outcome] for attempt in attempts}
    entries += [(f"box {css}", name) for css, name in names.items() if css in shown]
    return [*entries, ("box waiting", "waiting")]
