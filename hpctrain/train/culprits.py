"""Name the objects that end a run: bad values, a loss that is not finite, a batch without weight.

All ranks call these functions at the same boundary. Each looks through its own rows; all of them raise the same error.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch

from hpctrain.distributed.group import gather_json
from hpctrain.errors import DataError, DivergedError
from hpctrain.metrics.events import Diverged
from hpctrain.samples.protocols import PADDING_ROW
from hpctrain.train.randomness import seed_random_numbers
from hpctrain.train.schedule import mix

if TYPE_CHECKING:
    from hpctrain.train.run import Run
    from hpctrain.train.step import StepResult

_LISTED = 10
"""Largest number of objects that a message names."""


def own_micro_batches(run: Run) -> range:
    """Return the numbers of the micro-batches of a step that this rank computes."""
    return range(run.world.rank, run.schedule.num_micro_batches, run.world.world_size)


def rows_of(run: Run, steps: range, micro_batches: range) -> np.ndarray:
    """Return the rows of the set in each micro-batch of these steps, one line each; -1 is padding."""
    samples = run.schedule.samples_of(steps, micro_batches)
    return np.where(samples >= 0, run.data.train_rows[samples], PADDING_ROW)


def rows_of_step(run: Run, step: int) -> np.ndarray:
    """Return the rows (n,) that this rank read for the step from `step` to ``step + 1``, without padding."""
    if not run.learns_by_gradient:
        return run.data.train_rows
    rows = rows_of(run, range(step, step + 1), own_micro_batches(run)).reshape(-1)
    return rows[rows != PADDING_ROW]


def raise_bad_values(run: Run, when: str, rows: np.ndarray) -> NoReturn:
    """Name the objects with bad values.

    Parameters
    ----------
    run : Run
    when : str
        The step or evaluation that found them, for the message.
    rows : ndarray, int64
        Rows of the set that this rank read for it; -1 is skipped.

    Raises
    ------
    DataError
        Always; the message gives file, row, target id and the bad values.
    """
    kind, size = run.kind, run.schedule.micro_batch
    rows = np.unique(rows[rows != PADDING_ROW])
    mine = [
        line for start in range(0, len(rows), size) for line in kind.describe_bad(run.data.samples, rows[start:][:size])
    ]
    found = [line for part in gather_json(run.world, mine) for line in part]
    first = (
        f"{when}: {len(found)} {kind.words.many} with {kind.bad_noun}, and {kind.bad_advice}. "
        "No checkpoint holds this step"
    )
    raise DataError(_listing(first, found, f" {kind.words.many}"))


def raise_empty_batch(run: Run, step: int) -> NoReturn:
    """Name the objects of a step in which nothing has weight, whose gradient was not applied.

    Parameters
    ----------
    run : Run
    step : int
        Number of the step.

    Raises
    ------
    DataError
        Always; the message gives row, target id and reason of the first objects, and the remedy.
    """
    samples, size = run.data.samples, run.schedule.micro_batch
    rows = rows_of_step(run, step - 1)
    mine: list[tuple[str, str]] = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        for row, reason in zip(part, run.kind.reasons(samples, part, run.profile.data), strict=True):
            path, row_of_file = samples.locate(int(row))
            mine.append((reason, f"{path}: row {row_of_file}, target_id {int(samples.target_id[row])}: {reason}"))
    found = [item for part in gather_json(run.world, mine) for item in part]
    counts = Counter(reason for reason, _ in found)
    first = (
        f"step {step}: none of the {len(found):,} {run.kind.words.many} of the global batch carries weight, so there "
        f"is nothing to learn from ({_as_text(counts)}). {_remedy(run, counts)}No checkpoint holds this step"
    )
    raise DataError(_listing(first, [line for _, line in found]))


def why_without_weight(run: Run, rows: np.ndarray) -> dict[str, int]:
    """Return the number of these rows without weight by reason, the most common reason first."""
    return dict(Counter(run.kind.reasons(run.data.samples, rows, run.profile.data)).most_common())


def raise_diverged(run: Run, result: StepResult) -> NoReturn:
    """Name the objects that make a step not finite.

    That step did not change the weights, so the micro-batches can be computed again, one object at a time.

    Raises
    ------
    DivergedError
        Always.
    """
    step = result.step
    found = gather_json(run.world, _search(run, step - 1))
    # A batch that spans two epochs may hold an object twice.
    culprits = sorted({target for part in found for target in part[0]})
    others = sorted({target for part in found for target in part[1]} - set(culprits))
    what = "loss" if not math.isfinite(result.sums["loss_sum"]) else "gradient"
    if run.metrics is not None:
        run.metrics.event(Diverged(quantity=what, objects=culprits, batch=culprits + others), step)
    if culprits:
        blame = (
            f"The non-finite value is reproduced by these objects alone: target_id {_listed(culprits)}; look at their "
            "values in the files"
        )
    else:
        blame = (
            f"No single object of the batch reproduces it (target_id {_listed(others)}); lower train.learning_rate or "
            "train.clip_norm, or use bf16 or fp32"
        )
    raise DivergedError(
        f"step {step}: the {what} is not finite (learning rate {run.schedule.learning_rate(step - 1):.3g}). {blame}. "
        f"The newest checkpoint is older; the event 'diverged' of {run.directory.metrics} lists all objects"
        f"{_more(run)}"
    )


def _more(run: Run) -> str:
    """Return which command looks into the step; it needs batches and a gradient."""
    return f". To see what carries it: hpctrain autopsy {run.directory.path}" if run.learns_by_gradient else ""


def _search(run: Run, step: int) -> tuple[list[int], list[int]]:
    """Return the objects of this rank's micro-batches whose loss or gradient alone is not finite, and the others."""
    targets = run.data.samples.target_id
    culprits: list[int] = []
    others: list[int] = []
    if not run.learns_by_gradient:
        return culprits, targets[run.data.train_rows].tolist()
    for micro in own_micro_batches(run):
        for row in rows_of(run, range(step, step + 1), range(micro, micro + 1)).reshape(-1):
            if row != PADDING_ROW:
                (others if _is_finite(run, step, micro, row) else culprits).append(int(targets[row]))
    return culprits, others


def _is_finite(run: Run, step: int, micro: int, row: int) -> bool:
    seed_random_numbers(run.device, mix(run.profile.train.seed, step, micro))
    batch = run.prepare(run.data.samples.read(np.array([row])).to(run.device))
    batch = batch if run.augment is None else run.augment(batch)
    run.model.zero_grad(set_to_none=True)
    loss = run.model(batch, step)["loss_sum"]
    if not torch.isfinite(loss):
        return False
    loss.backward()
    gradients = [p.grad for p in run.model.parameters() if p.grad is not None]
    return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def _listing(first: str, lines: list[str], noun: str = "") -> str:
    more = [f"... and {len(lines) - _LISTED:,} more{noun}"] if len(lines) > _LISTED else []
    return "\n  ".join([first, *lines[:_LISTED], *more])


def _listed(targets: list[int]) -> str:
    more = f" and {len(targets) - _LISTED} more" if len(targets) > _LISTED else ""
    return ", ".join(map(str, targets[:_LISTED])) + more


def _as_text(counts: Counter[str]) -> str:
    return "; ".join(f"{count:,}: {reason}" for reason, count in counts.most_common())


def _remedy(run: Run, counts: Counter[str]) -> str:
    text = run.kind.remedies.get(counts.most_common(1)[0][0], "")
    return f"{text[0].upper()}{text[1:]}. " if text else ""
