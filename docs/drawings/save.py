"""How a checkpoint is written, so that it is there as a whole or not at all."""

from __future__ import annotations

import itertools

from drawings.shapes import Arrow, Box, Drawing

STEPS = (
    ("make", "make a hidden folder", ".step-00000040.0002.4711"),
    ("tensors", "write the tensors, to the disk", "model.safetensors ..."),
    ("state", "write the step and the facts", "state.json"),
    ("manifest", "write sizes and SHA-256, last", "MANIFEST.json"),
    ("rename", "rename the folder: it counts", "step-00000040"),
    ("old", "only now remove old ones", "step-00000010"),
)
"""Name, what the writer does, and the name on the disk."""
TOP, PITCH, HEIGHT = 132.0, 58.0, 36.0
VISIBLE = 4
"""Number of the step that makes the checkpoint visible, from 0."""


def drawing() -> Drawing:
    """Return the drawing."""
    result = Drawing(
        "checkpoint-save",
        "How a checkpoint is written",
        "Rank 0 copies the state into buffers and trains on. A thread makes a hidden folder, writes tensors, "
        "state.json and last MANIFEST.json, renames the folder to step-00000040, and only then removes old "
        "checkpoints. A kill before the rename leaves the older checkpoints; after it the new one counts.",
        TOP + PITCH * len(STEPS) + 34,
    )
    result.add(Box("device", 14, 16, 196, 54, "weights, moments", ("on the device",), "blue"))
    result.add(Box("buffers", 346, 16, 200, 54, "a copy", ("in host buffers",), "green"))
    result.add(Arrow("device", "buffers"))
    result.add(Box("copied", 214, 20, 124, 18, lines=("copied",), kind="soft"))
    result.add(Box("goes-on", 14, 72, 196, 20, lines=("training goes on",), kind="soft"))
    result.add(Arrow("buffers", "make", (0.5, 1), (0.5, 0), via=((446, 106), (143, 106))))
    result.add(Box("thread", 158, 109, 280, 20, lines=("a thread of rank 0 writes the copy",), kind="soft"))
    y = TOP
    for place, (name, does, on_disk) in enumerate(STEPS):
        if place == VISIBLE:
            y = _add_line(result, y)
        result.add(Box(name, 14, y, 258, HEIGHT, lines=(does,), kind="box", align="left"))
        look = "outside" if place in (0, len(STEPS) - 1) else "good" if place == VISIBLE else "file"
        result.add(Box(f"{name}-disk", 318, y, 228, HEIGHT, lines=(on_disk,), kind=look, code=True))
        result.add(Arrow(name, f"{name}-disk", kind="flow good" if place == VISIBLE else "flow"))
        y += PITCH - 12
    for before, after in itertools.pairwise(STEPS):
        result.add(Arrow(before[0], after[0], (0.5, 1), (0.5, 0)))
    result.height = y + 4
    return result


def _add_line(result: Drawing, y: float) -> float:
    """Add what a kill leaves before and after the rename; return where the next step is."""
    before = ("A kill up to here leaves the older ones.",)
    result.add(Box("before", 170, y + 4, 376, 28, lines=before, kind="bad"))
    return y + 46
