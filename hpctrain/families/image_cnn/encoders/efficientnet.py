"""EfficientNet-Lite with the names of timm's. N images, C channels, H × W pixels."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional

from hpctrain.families.image_cnn.encoders.layers import FrozenBatchNorm, SamePaddedConv, strided_as_its_gradient
from hpctrain.families.image_cnn.encoders.plans import EfficientNetPlan


def _conv(plan: EfficientNetPlan, before: int, after: int, kernel: int, stride: int, groups: int = 1) -> nn.Conv2d:
    if plan.from_tensorflow:
        conv: nn.Conv2d = SamePaddedConv(before, after, kernel, stride=stride, groups=groups, bias=False)
    else:
        conv = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return conv if groups == 1 else strided_as_its_gradient(conv)


def _norm(plan: EfficientNetPlan, channels: int) -> FrozenBatchNorm:
    return FrozenBatchNorm(channels, eps=1e-3 if plan.from_tensorflow else 1e-5)


class Block(nn.Module):
    """Widen, convolve each channel, narrow; the input is added where it has the shape of the output.

    Parameters
    ----------
    plan : EfficientNetPlan
    kernel, stride : int
    before, within, after : int
        Channels. If `within` is `before`, nothing is widened.
    """

    def __init__(self, plan: EfficientNetPlan, kernel: int, stride: int, before: int, within: int, after: int) -> None:
        super().__init__()
        self.widens = within != before
        self.adds = stride == 1 and before == after
        if self.widens:
            self.conv_pw, self.bn1 = nn.Conv2d(before, within, 1, bias=False), _norm(plan, within)
            self.conv_dw = _conv(plan, within, within, kernel, stride, groups=within)
            self.bn2 = _norm(plan, within)
            self.conv_pwl, self.bn3 = nn.Conv2d(within, after, 1, bias=False), _norm(plan, after)
        else:
            self.conv_dw = _conv(plan, within, within, kernel, stride, groups=within)
            self.bn1 = _norm(plan, within)
            self.conv_pw, self.bn2 = nn.Conv2d(within, after, 1, bias=False), _norm(plan, after)

    def forward(self, x: Tensor) -> Tensor:
        """Turn (N, C, H, W) into (N, C', H', W')."""
        if self.widens:
            y = functional.relu6(self.bn1(self.conv_pw(x)))
            y = self.bn3(self.conv_pwl(functional.relu6(self.bn2(self.conv_dw(y)))))
        else:
            y = self.bn2(self.conv_pw(functional.relu6(self.bn1(self.conv_dw(x)))))
        return x + y if self.adds else y


class EfficientNet(nn.Module):
    """An EfficientNet-Lite without its classifier.

    Parameters
    ----------
    plan : EfficientNetPlan
    """

    def __init__(self, plan: EfficientNetPlan) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = _conv(plan, 3, plan.stem, 3, stride=2), _norm(plan, plan.stem)
        stages: dict[str, list[Block]] = {}
        for place, *sizes in plan.blocks():
            stages.setdefault(place.split(".")[0], []).append(Block(plan, *sizes))
        self.blocks = nn.Sequential(*(nn.Sequential(*blocks) for blocks in stages.values()))
        self.conv_head = nn.Conv2d(list(stages.values())[-1][-1].bn3.weight.numel(), plan.num_features, 1, bias=False)
        self.bn2 = _norm(plan, plan.num_features)

    def begin(self, x: Tensor) -> Tensor:
        """Return what the first block reads."""
        return functional.relu6(self.bn1(self.conv_stem(x)))

    def each_block(self) -> Iterator[nn.Module]:
        """Yield the blocks in their order."""
        for stage in self.blocks:
            yield from stage.children()

    def pooled(self, x: Tensor) -> Tensor:
        """Return the features (N, F) of the output of the last block."""
        return functional.relu6(self.bn2(self.conv_head(x))).mean(dim=(2, 3))
