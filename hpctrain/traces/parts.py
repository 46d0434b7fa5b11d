"""Names that the trainer gives to the parts of a step in a trace, and what they mean."""

from __future__ import annotations

PREFIX = "hpctrain: "
"""Begins the name of each part, which a network of a user may call the same."""

COMPLETE = "gradient complete"
"""A moment: this rank has computed its own gradient, and now waits for that of the others."""

PARTS = {
    "loader": "waiting for the next batch",
    "prepare": "preparing the batch",
    "forward": "forward",
    "backward": "backward",
    "exchange": "exchange of gradients",
    "optimiser": "optimiser",
    "between": "between the steps",
    "other": "the rest of the step",
}
"""Parts of the time of the host, in the order of a step."""


def step_label(step: int) -> str:
    """Return the name of the step that leads to `step` updates."""
    return f"{PREFIX}step {step}"
