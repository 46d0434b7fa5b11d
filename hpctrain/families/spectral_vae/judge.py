"""Rules of the ``model`` section: values that are valid alone but do not fit together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpctrain.profile.judge import Judge


def check_model(judge: Judge) -> None:
    """Judge channels and kernels of the encoder."""
    model = judge.profile.model
    channels, kernels = model.encoder_channels, model.encoder_kernels
    if len(channels) != len(kernels):
        message = f"has {len(kernels)} values, encoder_channels has {len(channels)}; each convolution needs one of both"
        where = "model.encoder_kernels" if judge.is_written("model.encoder_kernels") else "model.encoder_channels"
        if where == "model.encoder_channels":
            message = (
                f"has {len(channels)} values, encoder_kernels has {len(kernels)}; each convolution needs one of both"
            )
        judge.problem(message, where, "model.encoder_channels", "model.encoder_kernels")
    if channels[-1] % 2:
        message = f"ends with {channels[-1]}, which is odd; half of the last ones become attention weights"
        judge.problem(message, "model.encoder_channels")
    pooled, pixels = math.prod(kernels[:-1]), _num_pixels(judge)
    if pixels is not None and pooled > pixels:
        message = f"{kernels} pool {pooled} pixels into one, but a spectrum has {pixels}; use smaller or fewer kernels"
        judge.problem(message, "model.encoder_kernels", "data.simulate")


def _num_pixels(judge: Judge) -> int | None:
    simulate = judge.profile.data.simulate
    return None if simulate is None else simulate.num_pixels
