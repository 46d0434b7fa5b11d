"""Build the encoder of a plan."""

from __future__ import annotations

from torch import nn

from hpctrain.families.image_cnn.encoders.convnext import ConvNeXt
from hpctrain.families.image_cnn.encoders.efficientnet import EfficientNet
from hpctrain.families.image_cnn.encoders.plans import ConvNeXtPlan, EfficientNetPlan, Plan, ResNetPlan
from hpctrain.families.image_cnn.encoders.resnet import ResNet

BUILDERS: dict[type, type] = {ResNetPlan: ResNet, EfficientNetPlan: EfficientNet, ConvNeXtPlan: ConvNeXt}


def build(plan: Plan) -> nn.Module:
    """Return the encoder of a plan, with new weights: it turns (N, 3, H, W) into features (N, F)."""
    return BUILDERS[type(plan)](plan)
