"""Frozen weights (``train.freeze``) keep their initial values: no gradient, no moments, no weight decay."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import nn

from hpctrain.errors import Problem, ProfileError


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Exclude the weights that match the patterns from training.

    Parameters
    ----------
    model : Module
        The model; it is changed in place.
    patterns : sequence of str
        Names of parameters, or of modules including everything in them; ``*`` matches anything.

    Returns
    -------
    list of str
        Names of the frozen parameters.

    Raises
    ------
    ProfileError
        A pattern matches no weight, or no weight is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    chosen = {pattern: [name for name in names if _fits(name, pattern)] for pattern in patterns}
    modules = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in names))
    problems = [
        Problem("train.freeze", f"'{pattern}' matches no weight; the modules of the network are {modules}")
        for pattern, found in chosen.items()
        if not found
    ]
    frozen = {name for found in chosen.values() for name in found}
    if frozen and len(frozen) == len(names):
        problems.append(Problem("train.freeze", "leaves no weight to train; freeze fewer"))
    if problems:
        raise ProfileError("train section", problems)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return [name for name in names if name in frozen]


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")
