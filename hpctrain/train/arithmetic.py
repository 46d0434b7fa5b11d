"""How ``train.precision`` makes torch compute."""

from __future__ import annotations

import torch

AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}
"""Type of the network's arithmetic by ``train.precision``, where it is not float32."""


def set_float32_arithmetic(precision: str) -> None:
    """Compute convolutions of float32 on TensorFloat-32 cores if and only if `precision` is ``tf32``.

    TensorFloat-32 rounds the factors to 10 bits of mantissa and sums in float32. Torch's own default is this type for
    convolutions, so that float32 would not be float32. Matrix products are never rounded, because least squares need
    the precision: with rounded products, the first loss of a spectral_vae was a seventh higher.

    Parameters
    ----------
    precision : str
        ``train.precision`` of the profile.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
