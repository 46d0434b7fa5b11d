"""Rules of the ``model`` section: values that are valid alone but do not fit together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hpctrain.families.spectral_vae.choices import LEAST_SQUARES, RANDOM

if TYPE_CHECKING:
    from hpctrain.profile.judge import Judge


def check_model(judge: Judge) -> None:
    """Judge encoder and start, and the channels and kernels of a convolutional encoder."""
    model = judge.profile.model
    if model.encoder == LEAST_SQUARES and model.start == RANDOM:
        message = "is random, but the least-squares encoder fits the components of a PCA; use start: pca"
        judge.problem(message, "model.start", "model.encoder")
    if model.encoder == LEAST_SQUARES:
        for key in ("encoder_channels", "encoder_kernels"):
            is_default = getattr(model, key) == type(model).model_fields[key].default  # as in a resolved profile
            if judge.is_written(f"model.{key}") and not is_default:
                judge.warn("has no effect: the least-squares encoder has no convolutions", f"model.{key}")
        return
    if not judge.is_written("model.encoder"):
        message = (
            "sizes a convolutional encoder, so this is the network of earlier versions, without robust loss and PCA "
            "start; write encoder: convolutional to have them, or remove this key for the default, which fits better"
        )
        where = next(key for key in ("encoder_channels", "encoder_kernels") if judge.is_written(f"model.{key}"))
        judge.warn(message, f"model.{where}")
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
