"""The encoders that ``model.encoder`` can name: their sizes, and the tensors of a file of their weights. No torch here.

References
----------
.. [1] Wightman 2019, PyTorch Image Models, doi:10.5281/zenodo.4414861: names of networks and tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

Shape = tuple[int, ...]

RESIDUAL = "residual"
"""Name of the encoder that has no plan: the network of our own."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green, blue (0 to 1) with which most networks of timm were trained."""

HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""The same for weights that come from TensorFlow."""

BATCH, GROUP = "batch", "group"


@dataclass(frozen=True)
class ResNetPlan:
    """A residual network.

    References
    ----------
    .. [1] He et al. 2015, Deep residual learning for image recognition, arXiv:1512.03385; the stride of a bottleneck is
       in its second convolution.
    """

    layers: tuple[int, int, int, int]
    """Blocks in each stage."""
    bottleneck: bool
    norm: str = BATCH
    colours: ClassVar = IMAGENET
    planes: ClassVar = (64, 128, 256, 512)

    @property
    def expansion(self) -> int:
        """Ratio of the output of a block to its narrowest convolution."""
        return 4 if self.bottleneck else 1

    @property
    def num_features(self) -> int:
        """F."""
        return self.planes[-1] * self.expansion

    @property
    def has_statistics(self) -> bool:
        """Whether batch normalisation needs statistics that a file brings."""
        return self.norm == BATCH

    def tensors(self) -> Iterator[tuple[str, Shape]]:
        """Yield names and shapes of all tensors."""
        yield "conv1.weight", (64, 3, 7, 7)
        yield from self._norm("bn1", 64)
        before = 64
        for number, (planes, blocks) in enumerate(zip(self.planes, self.layers, strict=True), 1):
            after = planes * self.expansion
            for block in range(blocks):
                at = f"layer{number}.{block}"
                sizes = [(planes, before, 3), (planes, planes, 3)]
                if self.bottleneck:
                    sizes = [(planes, before, 1), (planes, planes, 3), (after, planes, 1)]
                for place, (out, into, width) in enumerate(sizes, 1):
                    yield f"{at}.conv{place}.weight", (out, into, width, width)
                    yield from self._norm(f"{at}.bn{place}", out)
                if not block and (number > 1 or before != after):
                    yield f"{at}.downsample.0.weight", (after, before, 1, 1)
                    yield from self._norm(f"{at}.downsample.1", after)
                before = after

    def _norm(self, name: str, channels: int) -> Iterator[tuple[str, Shape]]:
        return _norm(name, channels, self.has_statistics)


@dataclass(frozen=True)
class EfficientNetPlan:
    """An EfficientNet-Lite: inverted bottlenecks with depthwise convolutions, without squeeze and excitation.

    References
    ----------
    .. [1] Tan & Le 2019, EfficientNet, arXiv:1905.11946.
    .. [2] github.com/tensorflow/tpu, models/official/efficientnet/lite: what Lite leaves out.
    """

    width: float
    depth: float
    from_tensorflow: bool
    """Padding and the smallest variance of batch normalisation are those of TensorFlow."""
    stages: ClassVar = (  # blocks, width of the filters, stride, expansion, channels
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )
    stem: ClassVar = 32
    num_features: ClassVar = 1280
    has_statistics: ClassVar = True

    @property
    def colours(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of red, green, blue."""
        return HALVES if self.from_tensorflow else IMAGENET

    def blocks(self) -> Iterator[tuple[str, int, int, int, int, int]]:
        """Yield for each block: its place, width of the filters, stride, channels before, within, after."""
        before = self.stem
        for stage, (repeats, kernel, stride, expansion, channels) in enumerate(self.stages):
            is_end = stage in (0, len(self.stages) - 1)
            after = _rounded(channels * self.width)
            for block in range(repeats if is_end else math.ceil(repeats * self.depth)):
                yield f"{stage}.{block}", kernel, 1 if block else stride, before, before * expansion, after
                before = after

    def tensors(self) -> Iterator[tuple[str, Shape]]:
        """Yield names and shapes of all tensors."""
        yield "conv_stem.weight", (self.stem, 3, 3, 3)
        yield from _norm("bn1", self.stem)
        after = self.stem
        for place, kernel, _, before, within, after in self.blocks():
            parts = [("conv_dw", (within, 1, kernel, kernel))]
            if within == before:
                parts.append(("conv_pw", (after, within, 1, 1)))
            else:
                parts = [("conv_pw", (within, before, 1, 1)), *parts, ("conv_pwl", (after, within, 1, 1))]
            for number, (name, shape) in enumerate(parts, 1):
                yield f"blocks.{place}.{name}.weight", shape
                yield from _norm(f"blocks.{place}.bn{number}", shape[0])
        yield "conv_head.weight", (self.num_features, after, 1, 1)
        yield from _norm("bn2", self.num_features)


@dataclass(frozen=True)
class ConvNeXtPlan:
    """A ConvNeXt: depthwise convolutions of 7 × 7 pixels and layer normalisation.

    References
    ----------
    .. [1] Liu et al. 2022, A ConvNet for the 2020s, arXiv:2201.03545.
    """

    depths: tuple[int, int, int, int]
    channels: tuple[int, int, int, int]
    colours: ClassVar = IMAGENET
    has_statistics: ClassVar = False

    @property
    def num_features(self) -> int:
        """F."""
        return self.channels[-1]

    def tensors(self) -> Iterator[tuple[str, Shape]]:
        """Yield names and shapes of all tensors."""
        before = self.channels[0]
        yield from _affine("stem.0", (before, 3, 4, 4))
        yield from _affine("stem.1", (before,))
        for stage, (depth, width) in enumerate(zip(self.depths, self.channels, strict=True)):
            if stage:
                yield from _affine(f"stages.{stage}.downsample.0", (before,))
                yield from _affine(f"stages.{stage}.downsample.1", (width, before, 2, 2))
            for block in range(depth):
                at = f"stages.{stage}.blocks.{block}"
                yield f"{at}.gamma", (width,)
                yield from _affine(f"{at}.conv_dw", (width, 1, 7, 7))
                yield from _affine(f"{at}.norm", (width,))
                yield from _affine(f"{at}.mlp.fc1", (4 * width, width))
                yield from _affine(f"{at}.mlp.fc2", (width, 4 * width))
            before = width
        yield from _affine("head.norm", (before,))


def _affine(name: str, shape: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _norm(name: str, channels: int, has_statistics: bool = True) -> Iterator[tuple[str, Shape]]:
    for part in ("weight", "bias", *(("running_mean", "running_var") if has_statistics else ())):
        yield f"{name}.{part}", (channels,)


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8 that is not more than a tenth too small."""
    found = max(8, int(channels + 4) // 8 * 8)
    return found + 8 if found < 0.9 * channels else found


Plan = ResNetPlan | EfficientNetPlan | ConvNeXtPlan

_LITE = {"0": (1.0, 1.0), "1": (1.0, 1.1), "2": (1.1, 1.2), "3": (1.2, 1.4), "4": (1.4, 1.8)}

PLANS: Mapping[str, Plan] = {
    "resnet18": ResNetPlan((2, 2, 2, 2), False),
    "resnet34": ResNetPlan((3, 4, 6, 3), False),
    "resnet50": ResNetPlan((3, 4, 6, 3), True),
    "resnet101": ResNetPlan((3, 4, 23, 3), True),
    "resnet50_gn": ResNetPlan((3, 4, 6, 3), True, GROUP),
    **{f"efficientnet_lite{size}": EfficientNetPlan(*factors, False) for size, factors in _LITE.items()},
    **{f"tf_efficientnet_lite{size}": EfficientNetPlan(*factors, True) for size, factors in _LITE.items()},
    "convnext_nano": ConvNeXtPlan((2, 2, 8, 2), (80, 160, 320, 640)),
    "convnext_tiny": ConvNeXtPlan((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": ConvNeXtPlan((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": ConvNeXtPlan((3, 3, 27, 3), (128, 256, 512, 1024)),
}
"""Names of timm."""

STRIDE = 32
"""Pixels along an axis that become one feature."""
