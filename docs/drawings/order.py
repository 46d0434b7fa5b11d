"""How the shuffled order of the samples outlives a change of the number of ranks; the numbers are real ones."""

from __future__ import annotations

import numpy as np

from drawings.shapes import Arrow, Box, Drawing
from hpctrain.samples.order import sample_order

SEED, NUM_SAMPLES, BATCH, NUM_MICRO = 7, 16, 2, 4
"""Seed, samples of an epoch, samples of a micro-batch, and micro-batches of a step."""
COLOURS = ("blue", "orange", "green", "pink")
"""Colour of each micro-batch of a step."""
CELL, LEFT, GAP = 32.0, 24.0, 12.0
"""Size of a sample, left edge, and the gap between steps [px]."""


def drawing() -> Drawing:
    """Return the drawing."""
    result = Drawing(
        "sample-order",
        "The order of the samples on four ranks, and on two after a stop",
        "A strip of 16 shuffled samples is the order of an epoch. Each step takes the next 8 of them as four "
        "micro-batches of 2. Step 1 runs on four ranks, one micro-batch each. After a stop the run goes on with two "
        "ranks, and step 2 has the same four micro-batches: each rank computes two of them, one after the other.",
        522.0,
    )
    order = sample_order(SEED, NUM_SAMPLES, np.arange(NUM_SAMPLES)).tolist()
    says = ("The order of an epoch is computed from seed, epoch and position.",)
    result.add(Box("says", LEFT, 12, 512, 20, lines=says, kind="text", align="left"))
    _add_strip(result, order)
    _add_four_ranks(result, order)
    stop = ("A stop. One number of the order is saved: the step.",)
    result.add(Box("stop", LEFT, 252, 512, 30, lines=stop, kind="held"))
    _add_two_ranks(result, order)
    same = (
        "The same samples, the same random numbers of each micro-batch.",
        "Only the order of summation differs: losses agree up to rounding.",
    )
    result.add(Box("same", LEFT, 470, 512, 40, lines=same, kind="soft"))
    return result


def _samples(order: list[int], step: int, micro: int) -> list[int]:
    first = (step * NUM_MICRO + micro) * BATCH
    return order[first : first + BATCH]


def _strip_left(step: int) -> float:
    """Return where a step begins in the strip; there is a gap between steps."""
    return LEFT - GAP / 2 + step * (NUM_MICRO * BATCH * CELL + GAP)


def _add_strip(result: Drawing, order: list[int]) -> None:
    for step in range(2):
        for micro in range(NUM_MICRO):
            x = _strip_left(step) + micro * BATCH * CELL
            result.add(Box(f"strip-{step}-{micro}", x, 38, BATCH * CELL, CELL, kind=COLOURS[micro]))
            for place, sample in enumerate(_samples(order, step, micro)):
                name = f"strip-{step}-{micro}-{place}"
                result.add(Box(name, x + place * CELL, 38, CELL, CELL, lines=(str(sample),), kind="text"))
    for step in range(2):
        x = _strip_left(step)
        text = (f"step {step + 1}: global batch of {NUM_MICRO * BATCH}",)
        result.add(Box(f"step-{step}", x, 74, NUM_MICRO * BATCH * CELL, 20, lines=text, kind="soft"))


def _add_four_ranks(result: Drawing, order: list[int]) -> None:
    result.add(Box("four", LEFT, 116, 512, 20, "Step 1 on four ranks", kind="text", align="left"))
    for micro in range(NUM_MICRO):
        x = LEFT + micro * 130
        samples = ", ".join(map(str, _samples(order, 0, micro)))
        result.add(Box(f"four-{micro}", x, 142, 122, 46, f"rank {micro}", (samples,), COLOURS[micro]))
    _add_sum(result, "four", 208, [f"four-{micro}" for micro in range(NUM_MICRO)])


def _add_two_ranks(result: Drawing, order: list[int]) -> None:
    result.add(Box("two", LEFT, 300, 512, 20, "Step 2 on two ranks", kind="text", align="left"))
    for rank in range(2):
        x = LEFT + rank * 260
        result.add(Box(f"two-{rank}", x, 326, 252, 82, kind="box"))
        result.add(Box(f"two-{rank}-name", x + 6, 330, 240, 22, f"rank {rank}", kind="text"))
        for turn, says in enumerate(("first", "then")):
            micro = turn * 2 + rank
            samples = ", ".join(map(str, _samples(order, 1, micro)))
            place = x + 8 + turn * 122
            result.add(Box(f"two-{micro}-micro", place, 356, 114, 44, lines=(says, samples), kind=COLOURS[micro]))
    _add_sum(result, "two", 428, ["two-0", "two-1"])


def _add_sum(result: Drawing, name: str, y: float, sources: list[str]) -> None:
    """Add the box in which the gradients of all ranks are summed."""
    text = ("sum of the gradients over all 8 samples: one change of the weights",)
    result.add(Box(f"{name}-sum", LEFT, y, 512, 30, lines=text, kind="file"))
    for source in sources:
        box = result.box(source)
        middle = (box.x + box.width / 2 - LEFT) / 512
        result.add(Arrow(source, f"{name}-sum", (0.5, 1), (middle, 0)))
