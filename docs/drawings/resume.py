"""Which checkpoint a resume takes, and what becomes of the others."""

from __future__ import annotations

import itertools

from drawings.shapes import Arrow, Box, Drawing

FOUND = (
    ("80", ".step-00000080.0002.4711", "half written: removed", "outside", "soft"),
    ("60", "step-00000060", "a byte differs: rejected", "bad", "bad text"),
    ("40", "step-00000040", "whole: this one", "good", "good text"),
    ("20", "step-00000020", "not needed, stays", "file", "soft"),
)
"""Step, name on the disk, what the search says, and the looks of both."""
TOP, PITCH, HEIGHT = 46.0, 50.0, 34.0


def drawing() -> Drawing:
    """Return the drawing."""
    result = Drawing(
        "checkpoint-resume",
        "Which checkpoint a resume takes",
        "Rank 0 looks at the checkpoints from the newest to the oldest. A half written one is removed, a damaged one "
        "is renamed to rejected-step-00000060, and the first whole one, step-00000040, is taken. Rank 0 tells all "
        "ranks its step, each verifies the same bytes, and all go on with step 41. Records after step 40 move to "
        "logs/superseded.jsonl.",
        446.0,
    )
    result.add(Box("head", 14, 14, 532, 20, "Rank 0 searches, the newest first", kind="text", align="left"))
    for place, (step, name, says, look, text) in enumerate(FOUND):
        y = TOP + PITCH * place
        result.add(Box(f"step-{step}", 38, y, 238, HEIGHT, lines=(name,), kind=look, code=True))
        result.add(Box(f"says-{step}", 316, y, 230, HEIGHT, lines=(says,), kind=text, align="left"))
        result.add(Arrow(f"step-{step}", f"says-{step}", enter=(-0.03, 0.5)))
    for one, other in itertools.pairwise(FOUND[:3]):
        result.add(Arrow(f"step-{one[0]}", f"step-{other[0]}", (0.5, 1), (0.5, 0)))
    _add_ranks(result)
    return result


def _add_ranks(result: Drawing) -> None:
    result.add(Box("tell", 14, 266, 532, 32, lines=("Rank 0 tells all ranks: step 40",), kind="blue"))
    result.add(Arrow("step-40", "tell", (0.0, 0.5), (0.0226, 0), via=((26.0, TOP + 2 * PITCH + HEIGHT / 2),)))
    for rank in range(4):
        x = 14 + rank * 136
        result.add(Box(f"rank-{rank}", x, 322, 124, 46, f"rank {rank}", ("verifies, loads",), "box"))
        result.add(Arrow("tell", f"rank-{rank}", ((x + 62 - 14) / 532, 1), (0.5, 0)))
    result.add(Box("on", 14, 392, 260, 40, lines=("The next step is step 41.",), kind="soft"))
    result.add(
        Box(
            "records", 286, 392, 260, 40, lines=("Records after step 40 move to", "logs/superseded.jsonl."), kind="soft"
        )
    )
