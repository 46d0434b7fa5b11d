"""Rules of the ``model`` section: values that are valid alone but do not fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpctrain.profile.judge import Judge


def check_network(judge: Judge) -> None:
    """Judge channels, kernels and pooling."""
    model = judge.profile.model
    if len(model.channels) != len(model.kernels):
        here, other = ("kernels", "channels") if judge.is_written("model.kernels") else ("channels", "kernels")
        message = (
            f"has {len(getattr(model, here))} values, {other} has {len(getattr(model, other))}; each convolution needs "
            "one of both"
        )
        judge.problem(message, f"model.{here}", f"model.{other}")
    simulate = judge.profile.data.simulate
    pixels = None if simulate is None else simulate.num_pixels
    pooled = model.pool ** (len(model.channels) - 1)
    if pixels is not None and pooled > pixels:
        message = f"{model.pool} pools {pooled} pixels into one, but a spectrum has {pixels}; use less, or fewer layers"
        judge.problem(message, "model.pool", "model.channels", "data.simulate")
