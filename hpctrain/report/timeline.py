"""Draw the time line: progress of the run, time in the queue, reasons for stops, and repeated steps."""

from __future__ import annotations

import numpy as np

from hpctrain.drawing.scale import grouped
from hpctrain.drawing.svg import LEFT, RIGHT, WIDE, Axes, drawing, legend, num_ticks, on_both, standalone
from hpctrain.report.attempts import Attempt
from hpctrain.report.gather import RunFacts
from hpctrain.report.text import cut
from hpctrain.words import format_duration

OUTCOME_CSS = {
    "finished": "good",
    "running": "busy",
    "stopped": "held",
    "failed": "bad",
    "diverged": "bad",
    "killed": "bad",
}
SIGNS = {"good": "✓", "busy": "►", "held": "■", "bad": "✕"}
"""Sign beside the number of an attempt, so that readers need not distinguish colours."""
_SHOWN = "Steps done against time, and the attempts below"
_BARS_TOP, _BAR_HEIGHT, _HEIGHT = 246, 26, 322
_THINNEST_BAR = 3.0
_LETTER = 7.0
"""Width of a letter of a label, slightly overestimated."""


def timeline_figure(facts: RunFacts) -> str:
    """Draw steps against time since submission, and below it one bar for each attempt; empty without attempts."""
    if not facts.attempts:
        return ""
    figure = on_both(WIDE, lambda width: drawing(width, _HEIGHT, _timeline(facts, width), _SHOWN))
    return legend(_entries(facts.attempts)) + figure


def timeline_document(facts: RunFacts) -> str:
    """Return the same drawing as a self-contained SVG file; empty without attempts."""
    if not facts.attempts:
        return ""
    title = f"{facts.run.name}: steps done against time, and the attempts below"
    return standalone(WIDE, _HEIGHT, _timeline(facts, WIDE), title, _entries(facts.attempts))


def _timeline(facts: RunFacts, width: int) -> list[Axes]:
    attempts = facts.attempts
    origin = min(facts.submitted_at or attempts[0].started_at, attempts[0].started_at)
    end = max(attempt.ended_at for attempt in attempts)
    if facts.total_steps > facts.step and attempts[-1].outcome == "stopped":
        end = max(end, facts.now)
    limits = (0.0, max(1.0, (end - origin) * 1.005))
    highest = max(1, facts.total_steps, *(attempt.last_step for attempt in attempts))
    inner = width - LEFT - RIGHT
    steps = Axes(LEFT, 30, inner, 190, limits, (0, highest * 1.06), x_kind="time")
    steps.add_grid("", "step", num_ticks(width), 4)
    if facts.total_steps:
        steps.horizontal(facts.total_steps, "reference")
    bars = Axes(LEFT, _BARS_TOP, inner, _BAR_HEIGHT, limits, (0, 1), x_kind="time")
    _draw_axis(bars, width)
    queued_from = origin
    for attempt, following in zip(attempts, [*attempts[1:], None], strict=True):
        _draw_queued(bars, queued_from - origin, attempt.started_at - origin)
        _draw_attempt(steps, bars, attempt, following, origin)
        queued_from = attempt.ended_at
    if end > queued_from:
        _draw_queued(bars, queued_from - origin, end - origin)
    _label_attempts(bars, attempts, origin)
    _draw_losses(steps, attempts, origin)
    return [steps, bars]


def _draw_axis(bars: Axes, width: int) -> None:
    bottom = bars.top + bars.height + 6
    for value, label in bars.x.ticks(num_ticks(width)):
        bars.text(float(bars.x.place(value)), bottom + 15, label, "tick", "middle")
    bars.text(bars.left + bars.width, bottom + 33, "time since submission", "label", "end")


def _draw_queued(bars: Axes, start: float, end: float) -> None:
    if end - start > 0.002 * (bars.x.high - bars.x.low):
        bars.bar(start, end, 0.3, 0.7, "waiting", f"queued {format_duration(end - start)}")


def _label_attempts(bars: Axes, attempts: list[Attempt], origin: float) -> None:
    """Write number and sign of each attempt on its bar, or above the bar if it is too narrow.

    An attempt has no label if it would cover the label before it.
    """
    free_from = -np.inf
    for attempt in attempts:
        label = f"{attempt.number} {SIGNS[OUTCOME_CSS[attempt.outcome]]}"
        left, right = (float(bars.x.place(moment - origin)) for moment in (attempt.started_at, attempt.ended_at))
        width, middle = _LETTER * len(label), (left + max(right, left + _THINNEST_BAR)) / 2
        if right - left > width + 4:
            bars.text(middle, bars.top + bars.height / 2 + 4.5, label, "bar-label", "middle")
        elif middle - width / 2 > free_from:
            bars.text(middle, bars.top - 6, label, "mark", "middle")
            free_from = middle + width / 2


def _draw_attempt(steps: Axes, bars: Axes, attempt: Attempt, following: Attempt | None, origin: float) -> None:
    title = (
        f"attempt {attempt.number}: {attempt.outcome} after {format_duration(attempt.seconds)} "
        f"at step {attempt.last_step} ({cut(attempt.cause)})"
    )
    start, end = attempt.started_at - origin, attempt.ended_at - origin
    bars.bar(start, end, 0, 1, f"attempt {OUTCOME_CSS[attempt.outcome]}", title, _THINNEST_BAR)
    if attempt.progress:
        times = np.array([time for time, _ in attempt.progress]) - origin
        steps.line(times, np.array([step for _, step in attempt.progress], dtype=np.float64), "c1", "step")
    saved = {checkpoint.step for checkpoint in attempt.checkpoints}
    if following is not None and attempt.first_step < following.first_step <= attempt.last_step:
        saved.add(following.first_step)  # the attempt wrote this checkpoint, and was killed before it could record it
    if saved and attempt.progress:
        done = np.array(sorted(saved), dtype=np.float64)
        done = done[:: max(1, len(done) // 200)]  # more would be a solid line
        # the record of an asynchronous checkpoint is later than its state, which is that at the time of its step
        marks = sorted((step, time) for time, step in attempt.progress)
        times = np.interp(done, [step for step, _ in marks], [time - origin for _, time in marks])
        steps.dots(times, done, "c3", 2.6)


def _draw_losses(steps: Axes, attempts: list[Attempt], origin: float) -> None:
    """Draw a line from the last step of a killed attempt down to the first step of the next one."""
    for number, attempt in enumerate(attempts):
        following = next((later for later in attempts[number + 1 :] if later.progress), None)
        if attempt.steps_lost and following is not None:
            x = np.array([attempt.ended_at, following.started_at]) - origin
            steps.line(x, np.array([attempt.last_step, following.first_step], dtype=np.float64), "lost")
            place = float(steps.x.place(x[0])), float(steps.y.place(attempt.last_step))
            label = f"{grouped(attempt.steps_lost)} steps lost"
            anchor = "end" if place[0] > steps.left + 0.3 * steps.width else "start"
            steps.text(place[0] + (-7 if anchor == "end" else 7), place[1] - 7, label, "mark", anchor)


def _entries(attempts: list[Attempt]) -> list[tuple[str, str]]:
    entries = [("line c1", "steps done")]
    if any(attempt.checkpoints for attempt in attempts):
        entries.append(("dot c3", "checkpoint"))
    if any(attempt.steps_lost for attempt in attempts):
        entries.append(("line lost", "lost, done again"))
    names = {
        "good": "finished", "busy": "running", "held": "stopped and saved", "bad": "failed or killed",
    }  # fmt: skip
    shown = {OUTCOME_CSS[attempt.outcome] for attempt in attempts}
    entries += [(f"box {css}", f"{SIGNS[css]} {name}") for css, name in names.items() if css in shown]
    return [*entries, ("box waiting", "queued")]
