"""What ``train.precision`` makes of float32."""

from __future__ import annotations

import pytest
import torch

from hpctrain.train.arithmetic import set_float32_arithmetic


@pytest.fixture(autouse=True)
def _as_before():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize(("precision", "rounded"), [("fp32", False), ("tf32", True), ("bf16", False), ("fp16", False)])
def test_only_tf32_rounds_convolutions_and_nothing_rounds_products(precision, rounded):
    torch.backends.cudnn.allow_tf32 = not rounded
    torch.set_float32_matmul_precision("high")
    set_float32_arithmetic(precision)
    assert torch.backends.cudnn.allow_tf32 is rounded
    assert torch.get_float32_matmul_precision() == "highest"
