"""Rules about progress: steps, speed, checkpoints, attempts."""

from __future__ import annotations

from hpctrain.alerts.facts import TRAINING, Facts
from hpctrain.alerts.verdict import UNKNOWN, Verdict, bad, between, well
from hpctrain.states import SILENT_BEATS
from hpctrain.words import format_duration

BARREN = 3
"""Number of attempts in a row without a checkpoint from which they are worth an alert."""
_GIVEN_UP = ("failed", "no-progress", "too-many-attempts", "requeue-is-off")


def no_progress(now: Facts) -> Verdict:
    """Rank 0 has done nothing for many times the usual time of a step."""
    usual_s = now.tape.usual_step_s
    if usual_s is None or now.state != TRAINING:
        return UNKNOWN
    limit_s = max(now.limits.no_progress_s, now.limits.no_progress_steps * usual_s)
    text = f"no step for {format_duration(max(0.0, now.silent_s))}, with {_short(usual_s)} as the usual time of a step"
    if now.silent_s > limit_s:
        return bad(f"{text} (step {now.step})", now.silent_s)
    return well(f"step {now.step} is done", now.silent_s) if now.silent_s < limit_s / 2 else between(text)


def slow_steps(now: Facts) -> Verdict:
    """The run has become much slower than it was."""
    if (speeds := now.tape.speeds) is None or now.state != TRAINING:
        return UNKNOWN
    speed, usual = speeds
    text = f"{speed:,.3g} samples/s, with {usual:,.3g} as the usual speed"
    if speed < 0.5 * usual:
        return bad(text, speed)
    return well(text, speed) if speed > 0.8 * usual else between(text, speed)


def checkpoint_late(now: Facts) -> Verdict:
    """The newest checkpoint failed, or is much older than it should be."""
    tape, every = now.tape, now.checkpoint_every_steps
    last = tape.saved_step if tape.saved_step is not None else tape.first_step
    if tape.save_error:
        since = f"the newest one is of step {last}" if tape.has_saved else "there is none of this attempt"
        return bad(f"a checkpoint failed ({tape.save_error}); {since}", float(now.step - (last or 0)))
    if last is None:
        return UNKNOWN
    done = now.step - last
    text = f"{done} steps since the last checkpoint, with one due every {every}"
    if done > 3 * every:  # what became of a checkpoint is on record when the next one is due
        return bad(text, float(done))
    return well(text, float(done)) if done <= 2 * every else between(text, float(done))


def failing_node(now: Facts) -> Verdict:
    """Attempt after attempt fails on one node, or without a new checkpoint."""
    node, strikes = max(now.strikes.items(), key=lambda item: item[1], default=("", 0))
    if now.tape.has_saved:
        return well("this attempt has saved a checkpoint", float(strikes))
    if strikes >= 2:
        return bad(f"node {node} failed repeatedly within a day (attempts/bad-nodes.tsv)", float(strikes))
    if now.barren_attempts >= BARREN:
        where = f", all of them on {now.barren_node}" if now.barren_node else ""
        return bad(f"{now.barren_attempts} attempts in a row ended without a new checkpoint{where}", strikes)
    return well("the last attempts saved checkpoints", float(strikes)) if not now.barren_attempts else UNKNOWN


def silent(now: Facts) -> Verdict:
    """No rank has written its heartbeat for a long time, although the job goes on."""
    if now.ended:
        return well("the attempt has ended", 0.0)
    if now.beat_age_s is None:
        return UNKNOWN
    limit_s = max(now.limits.silent_s, SILENT_BEATS * now.beat_interval_s)
    text = f"no rank has given a sign of life for {format_duration(max(0.0, now.beat_age_s))} (step {now.step})"
    if now.beat_age_s > limit_s:
        return bad(text, now.beat_age_s)
    return well("the ranks give signs of life", now.beat_age_s) if now.beat_age_s < limit_s / 2 else between(text)


def run_ended_badly(now: Facts) -> Verdict:
    """An attempt has ended, and no other one follows."""
    if now.ended in _GIVEN_UP:
        return bad(f"the run has ended at step {now.step} with exit code {now.exit_code} ({now.ended})", now.exit_code)
    return UNKNOWN if now.ended else well("an attempt is running", 0.0)


def _short(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else format_duration(seconds)
