"""Names of the tensors in a file of weights, and whether they are those of an encoder. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from hpctrain.families.image_cnn.encoders.plans import EfficientNetPlan, Plan, Shape

T = TypeVar("T")

NESTED = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys of a training checkpoint under which the weights are, in the order in which timm looks for them."""

_UNUSED = re.compile(r"(fc|classifier|head\.fc|_fc)\.|.*\.num_batches_tracked$")
"""The classifier, and counters of batch normalisation."""

_MOST_NAMED = 8


def renamed(found: Mapping[str, T], plan: Plan) -> dict[str, T]:
    """Return the tensors of a file with the names of timm, without the classifier.

    A first part that all names share, such as ``module.``, is left out, and the names of EfficientNet-PyTorch are
    translated.

    Parameters
    ----------
    found : mapping of str to anything
    plan : Plan
    """
    names = list(found)
    while names and len({name.partition(".")[0] for name in names}) == 1 and all("." in name for name in names):
        names = [name.partition(".")[2] for name in names]
    by_name = dict(zip(names, found.values(), strict=True))
    by_name = {name: value for name, value in by_name.items() if not _UNUSED.match(name)}
    if isinstance(plan, EfficientNetPlan) and "_conv_stem.weight" in by_name:
        by_name = {_from_efficientnet_pytorch(name, plan): value for name, value in by_name.items()}
    return by_name


def _from_efficientnet_pytorch(name: str, plan: EfficientNetPlan) -> str:
    """Return timm's name of a tensor of github.com/lukemelas/EfficientNet-PyTorch."""
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if not match:
        first, _, last = name.partition(".")
        known = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
        return f"{known.get(first, first)}.{last}"
    blocks = list(plan.blocks())
    number, layer, last = int(match[1]), match[2], match[3]
    if number >= len(blocks):
        return name
    place, _, _, before, within, _ = blocks[number]
    own = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    if within != before:
        own = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
        own |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    return f"blocks.{place}.{own.get(layer, layer)}.{last}"


def misfits(found: Mapping[str, Shape], plan: Plan) -> list[str]:
    """Return what hinders tensors, with the names of timm, from being the weights of an encoder.

    Parameters
    ----------
    found : mapping of str to tuple of int
        Shapes by name. Ones at the end of a shape do not count: a convolution of one pixel is a matrix.
    plan : Plan
    """
    wanted = dict(plan.tensors())
    lines = [f"{name}: is missing" for name in wanted if name not in found]
    lines += [
        f"{name}: has shape {tuple(found[name])}, not {shape}"
        for name, shape in wanted.items()
        if name in found and without_ones(found[name]) != without_ones(shape)
    ]
    lines += [f"{name}: is not in this encoder" for name in found if name not in wanted]
    more = [f"... and {len(lines) - _MOST_NAMED} more"] if len(lines) > _MOST_NAMED else []
    return lines[:_MOST_NAMED] + more


def without_ones(shape: Shape) -> Shape:
    """Return a shape without the ones at its end."""
    shape = tuple(shape)
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def fitting(found: Mapping[str, Shape], plans: Mapping[str, Plan]) -> list[str]:
    """Return the encoders that a file of weights fits, by the names and shapes in it."""
    return [name for name, plan in plans.items() if not misfits(renamed(found, plan), plan)]
