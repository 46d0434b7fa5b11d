"""Rules about a loss that does not fall as it should."""

from __future__ import annotations

import numpy as np

from hpctrain.advice.advice import FAILURE, LEARNING, Advice, Change
from hpctrain.advice.summary import RunSummary, percent
from hpctrain.metrics.events import BadValues, DataFound, Diverged, EarlyStopped, EvaluationEmpty

FEWEST = 20
"""Least number of training records from which a curve is judged."""


def smoothed(values: np.ndarray, width: int) -> np.ndarray:
    """Return running medians, shape (N - width + 1,), of a curve of shape (N,)."""
    return np.median(np.lib.stride_tricks.sliding_window_view(values, width), axis=-1)


def _curve(run: RunSummary) -> np.ndarray | None:
    """Return the smoothed training loss, if it is long enough to be judged."""
    _, loss = run.train("loss")
    return smoothed(loss, max(3, len(loss) // 20)) if len(loss) >= FEWEST else None


def _rate(run: RunSummary) -> float:
    return run.number("train.learning_rate", 1e-3)


def _try(run: RunSummary) -> str:
    """Return which command measures a learning rate that fits."""
    return f"`hpctrain lr-find {run.typed}/profile.yaml` measures which learning rate fits"


def _learns_by_gradient(run: RunSummary) -> bool:
    _, rates = run.train("lr")
    return len(rates) > 0


def diverged(run: RunSummary) -> Advice | None:
    """A loss or gradient was not finite."""
    event = run.newest(Diverged)
    if event is None:
        return None
    bad = run.newest(BadValues)
    rate, clip = _rate(run), run.number("train.clip_norm")
    changes = [Change("train.learning_rate", float(f"{rate / 4:.2g}"))]
    if clip is None:
        changes.append(Change("train.clip_norm", 1.0))
    if run.get("train.precision", "fp32") == "fp16":
        changes.append(Change("train.precision", "bf16"))
    objects = [str(item) for item in event.objects or ()]
    few = 0 < len(objects) <= 10 and len(objects) < len(event.batch or ())
    look = f"`hpctrain autopsy {run.typed} --step {event.step}` shows which values and layers did it"
    todo = f"look at the values of {', '.join(objects)} in the files first; {look}" if few else f"{look}; {_try(run)}"
    also = ", and bad values were read before" if bad else ""
    return Advice(
        FAILURE,
        f"the {event.quantity or 'loss'} was not finite at step {event.step}, with a learning rate of {rate:g}{also}",
        "these objects alone give a value that is not finite"
        if few
        else "the steps were too large: each made the next gradient larger",
        "the run continues beyond this step",
        tuple(changes),
        todo,
    )


def learning_rate_too_high(run: RunSummary) -> Advice | None:
    """The loss rises far above what the run had reached, or stays above where it began."""
    curve = _curve(run)
    if curve is None or not _learns_by_gradient(run) or run.newest(Diverged):
        return None
    _, raw = run.train("loss")
    first, lowest, last, highest = raw[0], curve.min(), curve[-max(3, len(curve) // 10) :].mean(), raw.max()
    fall = max(first - lowest, 1e-12 * abs(first))
    noise = np.median(np.abs(np.diff(raw)))
    rose_again = (last - lowest) > max(0.5 * fall, 3 * noise) and last > lowest + 0.05 * abs(lowest)
    stayed = curve.max()  # one high step is a spike
    shot_up = stayed > first + 2 * max(fall, 0.1 * abs(first)) and stayed > 2 * abs(first)
    if not (rose_again or shot_up):
        return None
    rate, total = _rate(run), run.total_steps or run.step
    changes = [Change("train.learning_rate", float(f"{min(rate / 10, 3e-3):.2g}"))]
    if run.number("train.warmup_steps", 0) < total // 20:
        changes.append(Change("train.warmup_steps", max(1, min(500, total // 10))))
    if run.number("train.clip_norm") is None:
        changes.append(Change("train.clip_norm", 1.0))
    return Advice(
        LEARNING,
        f"the training loss began at {first:.4g}, rose to {highest:.4g} and ended at {last:.4g} (lowest "
        f"{lowest:.4g}) with a learning rate of {rate:g}",
        "steps that are too large leave the valley that they go down, most of all before a warm-up",
        f"a loss below {min(first, lowest):.4g}",
        tuple(changes),
        _try(run),
    )


def learning_rate_too_low(run: RunSummary) -> Advice | None:
    """The loss fell as much for each unit of learning rate at the end as at the beginning: it never left the slope."""
    _, loss = run.train("loss")
    _, rates = run.train("lr")
    if len(loss) < FEWEST or len(rates) != len(loss) or _rate(run) > 3e-4:
        return None
    early, late = slice(len(loss) // 10, len(loss) * 4 // 10), slice(len(loss) * 5 // 10, len(loss) * 8 // 10)
    falls, errors = zip(*(_fall(loss[part]) for part in (early, late)), strict=True)
    per_rate = [fall / max(rates[part].sum(), 1e-300) for fall, part in zip(falls, (early, late), strict=True)]
    flat = abs(loss[: len(loss) // 4].mean() - loss[-len(loss) // 4 :].mean()) < 0.02 * abs(loss[0])
    linear = falls[1] > 2 * errors[1] and per_rate[1] > 0.4 * per_rate[0] > 0
    if not (linear or (flat and _rate(run) < 3e-5)):
        return None
    rate = float(f"{min(1e-3, _rate(run) * (100 if flat else 10)):.2g}")
    begin, end = loss[: max(1, len(loss) // 10)].mean(), loss[-len(loss) // 10 :].mean()
    return Advice(
        LEARNING,
        f"the training loss went from {begin:.4g} to {end:.4g} with a learning rate of {_rate(run):g}, and at the end "
        "as slowly as at the beginning",
        "the steps are so small that the run ends long before the loss levels off",
        "a much lower loss in the same number of steps",
        (Change("train.learning_rate", rate),),
        _try(run),
    )


def _fall(loss: np.ndarray) -> tuple[float, float]:
    """Return how far a line through a part of the curve falls, and the standard error of this."""
    x = np.arange(len(loss)) / max(1, len(loss) - 1)
    (slope, _), covariance = np.polyfit(x, loss, 1, cov=True)
    return float(-slope), float(np.sqrt(covariance[0, 0]))


def spiky_loss(run: RunSummary) -> Advice | None:
    """Single steps have a loss many times the loss around them."""
    steps, loss = run.train("loss")
    if len(loss) < 2 * FEWEST or not _learns_by_gradient(run) or learning_rate_too_high(run):
        return None
    padded = np.pad(loss, 4, mode="edge")
    around = smoothed(padded, 9)
    spread = np.median(np.abs(loss - around)) * 1.4826
    spikes = (loss > around + 12 * spread) & (loss > around + 0.5 * np.abs(around))
    spikes[: len(loss) // 20] = False
    if spikes.sum() < 3:
        return None
    _, norms = run.train("grad_norm")
    clip = run.number("train.clip_norm")
    usual = float(f"{np.median(norms):.2g}") if len(norms) else 1.0
    changes = [Change("train.learning_rate", float(f"{_rate(run) / 2:.2g}"))]
    if clip is None or clip > 3 * usual > 0:
        changes.insert(0, Change("train.clip_norm", max(usual, 1e-3)))
    return Advice(
        LEARNING,
        f"{int(spikes.sum())} of {len(loss)} recorded steps have a loss far above the steps around them (up "
        f"to {loss[spikes].max():.4g}, with {np.median(around):.4g} as the usual value)",
        "a few batches throw the weights far off: extreme samples, or steps that are too large",
        "a curve without spikes",
        tuple(changes),
        f"`hpctrain autopsy {run.typed} --step {steps[spikes][loss[spikes].argmax()]:.0f}` names samples and layers of "
        "the largest spike; `hpctrain data doctor` finds extreme samples",
    )


def overfitting(run: RunSummary) -> Advice | None:
    """The held-out loss rises while the training loss still falls."""
    metric = run.objective.metric
    steps, values = run.evaluated(metric)
    _, loss = run.train("loss")
    if len(values) < 6 or len(loss) < FEWEST or run.newest(EarlyStopped):
        return None
    sign = 1 if run.objective.lower_is_better else -1
    values = sign * values
    best = int(values.argmin())
    last = values[-max(1, len(values) // 10) :].mean()
    rise, gained = last - values[best], max(values[0] - values[best], 0.0)
    fell = loss[-len(loss) // 10 :].mean() < np.interp(steps[best], np.linspace(0, steps[-1], len(loss)), loss)
    if steps[best] > 0.7 * steps[-1] or rise < 0.15 * gained or rise < 0.05 * abs(values[best]) or not fell:
        return None
    if gained < 0.05 * abs(values[0]):
        return None  # nothing general was learned in the first place: labels_not_learned
    changes = [Change("train.early_stopping", {"patience": 5}), Change("train.weight_decay", _more_decay(run))]
    if "dropout" in (run.get("model") or {}):
        changes.append(Change("model.dropout", max(0.2, min(0.5, 2 * run.number("model.dropout", 0.0)))))
    return Advice(
        LEARNING,
        f"the held-out {metric} was {sign * values[best]:.4g} at step {steps[best]:.0f}, its best, and "
        f"{sign * last:.4g} at the end, step {steps[-1]:.0f}, while the training loss fell",
        "the network learns the training samples by heart",
        f"the held-out {metric} of step {steps[best]:.0f} or better, in fewer steps",
        tuple(changes),
        "more training samples, or augmentation, help most",
    )


def _more_decay(run: RunSummary) -> float:
    return float(f"{min(0.3, max(0.05, 5 * (run.get('train.weight_decay', 0.01) or 0.0))):.2g}")


def labels_not_learned(run: RunSummary) -> Advice | None:
    """The held-out labels are never predicted better than at the beginning, although the training loss falls."""
    if not run.get("model.labels"):
        return None
    steps, values = run.evaluated("loss")
    _, loss = run.train("loss")
    if len(values) < 5 or len(loss) < FEWEST or _rate(run) < 3e-5:
        return None
    if learning_rate_too_high(run) or learning_rate_too_low(run):
        return None
    began = float(np.median(loss[: max(5, len(loss) // 20)]))
    if began - values.min() >= 0.1 * abs(began):
        return None
    return Advice(
        LEARNING,
        f"the training loss began at {began:.4g}, and the held-out loss was {values.min():.4g} at best in "
        f"{steps[-1]:.0f} steps",
        "the inputs do not say the labels: the labels belong to other rows, are mostly "
        "noise, or the network is fed the wrong columns",
        "a held-out loss that falls at all",
        (),
        "compare some labels with their samples; `hpctrain audit` and `hpctrain data doctor` look for more",
    )


def dead_gradient(run: RunSummary) -> Advice | None:
    """The gradient is all but 0."""
    _, norms = run.train("grad_norm")
    if len(norms) < FEWEST or np.median(norms[len(norms) // 2 :]) > 1e-7:
        return None
    return Advice(
        LEARNING,
        f"the median norm of the gradient is {np.median(norms[len(norms) // 2 :]):.1g} in the second half",
        "nothing is learned any more: units are dead or saturated, all weights are frozen, or the loss has no slope",
        "a loss that falls again",
        (Change("train.learning_rate", float(f"{_rate(run) / 3:.2g}")),),
        "look at the histograms of the weights (TensorBoard), at train.freeze and at the scale of the inputs",
    )


def exploding_gradient(run: RunSummary) -> Advice | None:
    """Nearly every gradient is far larger than the norm to which it is clipped, or grows without end."""
    _, norms = run.train("grad_norm")
    clip = run.number("train.clip_norm")
    if len(norms) < FEWEST:
        return None
    early, late = np.median(norms[: len(norms) // 4]), np.median(norms[-len(norms) // 4 :])
    grows = late > 100 * max(early, 1e-12) and late > 100 * (clip or 1.0)
    if not grows:
        return None
    changes = [Change("train.learning_rate", float(f"{_rate(run) / 4:.2g}"))]
    if clip is None:
        changes.append(Change("train.clip_norm", float(f"{max(early, 1e-3):.2g}")))
    return Advice(
        LEARNING,
        f"the median norm of the gradient grew from {early:.3g} to {late:.3g}",
        "layers amplify each other's errors",
        "steps of a steady size",
        tuple(changes),
    )


def half_precision_fails(run: RunSummary) -> Advice | None:
    """Many steps are skipped because numbers of fp16 overflow."""
    _, skipped = run.train("skipped")
    late = skipped[len(skipped) // 10 :]
    if len(late) < FEWEST or late.mean() < 0.05:
        return None
    return Advice(
        LEARNING,
        f"{percent(late.mean())} of the steps were skipped, because numbers of fp16 were not finite",
        "fp16 ends at 65504",
        "every step counts",
        (Change("train.precision", "bf16"), Change("train.adam_eps", 1e-6)),
    )


def nothing_held_out(run: RunSummary) -> Advice | None:
    """No held-out sample can be evaluated."""
    empty = run.newest(EvaluationEmpty)
    if empty is None or run.history.evaluations:
        return None
    validation = run.number("data.split.validation", 0.1)
    return Advice(
        LEARNING,
        f"no evaluation was possible: none of the held-out samples carries weight ({empty.reasons or ''})",
        "without an evaluation nobody knows how good the model is",
        "a held-out loss",
        (Change("data.split.validation", max(0.2, validation)),),
    )


def samples_without_weight(run: RunSummary) -> Advice | None:
    """Many of the inspected samples carry no weight."""
    found = run.newest(DataFound)
    counts = (found.counts or {}) if found else {}
    rejected, inspected = counts.get("num_rejected") or 0, counts.get("num_inspected") or 0
    if inspected < 20 or rejected < 0.3 * inspected:
        return None
    return Advice(
        LEARNING,
        f"{rejected} of {inspected} inspected samples carry no weight",
        "they are read and computed, and teach nothing",
        f"up to {percent(rejected / inspected)} less time",
        (),
        "find out why with `hpctrain data doctor`, and repack the files without them",
    )


def doubtful_data(run: RunSummary) -> Advice | None:
    """The inspection of the data found something implausible: units, normalisation, labels."""
    found = run.newest(DataFound)
    warnings = list((found.warnings if found else None) or ())
    if not warnings:
        return None
    return Advice(
        LEARNING,
        f"the inspection of the data warned: {'; '.join(warnings)[:400]}",
        "a network learns what is wrong with its data, too",
        "results that mean something",
        (),
        "correct the files or the keys that the warning names; `hpctrain data doctor` shows more",
    )
