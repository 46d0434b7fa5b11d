"""Rules about losses and metrics."""

from __future__ import annotations

import itertools
import statistics

from hpctrain.alerts.facts import Facts
from hpctrain.alerts.tape import QUIET_RECORDS
from hpctrain.alerts.verdict import UNKNOWN, Verdict, bad, between, well
from hpctrain.records import is_number


def loss_spike(now: Facts) -> Verdict:
    """A recorded training loss lies far above the usual ones."""
    tape = now.tape
    if tape.spike is None or tape.since_spike is None:
        return well("the training loss is as usual")
    step, loss, level = tape.spike
    text = f"the training loss was {loss:.4g} at step {step}, with {level:.4g} as the usual value"
    if tape.since_spike == 0:
        return bad(text, loss)
    if tape.since_spike < QUIET_RECORDS:
        return bad(text, loss) if tape.since_spike < QUIET_RECORDS // 2 else between(text, loss)
    return well(f"the training loss is as usual again, {tape.since_spike} records after the spike at step {step}", loss)


def useless_steps(now: Facts) -> Verdict:
    """Many steps are skipped, or have a loss that is not finite."""
    share = now.tape.useless_share
    if share is None:
        return UNKNOWN
    text = (
        f"{100 * share:.0f} % of the newest {len(now.tape.useless)} recorded steps were skipped or had no finite loss"
    )
    if share >= 0.25:
        return bad(text, share)
    return well(text, share) if share <= 0.05 else between(text, share)


def metric_worse(now: Facts) -> Verdict:
    """The held-out metric has been worse than its best for many evaluations, by more than its noise."""
    name, number = now.objective.metric, now.evaluations_since_best
    values = [record[name] for record in now.tape.evaluations if is_number(record.get(name))]
    if now.best_value is None or len(values) < 2:
        return UNKNOWN
    if number < now.limits.evaluations_without_best // 2:
        return well(f"the held-out {name} is {values[-1]:.4g}, with {now.best_value:.4g} as its best", values[-1])
    recent = values[-5:]
    noise = statistics.median([abs(b - a) for a, b in itertools.pairwise(values)])
    worse = (statistics.median(recent) - now.best_value) * (1 if now.objective.lower_is_better else -1)
    text = (
        f"the held-out {name} is {values[-1]:.4g}, and was {now.best_value:.4g} at its best, {number} evaluations ago"
    )
    is_worse = worse > max(0.05 * abs(now.best_value), 3 * noise)
    if number >= now.limits.evaluations_without_best and is_worse:
        return bad(text, values[-1])
    return between(text, values[-1])
