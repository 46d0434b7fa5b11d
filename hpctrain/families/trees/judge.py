"""Rules of the ``model`` section: values that are valid alone but do not fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpctrain.families.labels.section import CIRCULAR, DENSITY
from hpctrain.families.trees.section import BOOSTING

if TYPE_CHECKING:
    from hpctrain.profile.judge import Judge


def check_trees(judge: Judge) -> None:
    """Judge method, numbers of trees, and labels that are inputs too."""
    model, data = judge.profile.model, judge.profile.data
    if model.trees % model.trees_per_round:
        message = (
            f"{model.trees} trees are no multiple of {model.trees_per_round} trees per round; "
            f"use {model.rounds * model.trees_per_round}"
        )
        judge.problem(message, "model.trees", "model.trees_per_round")
    ranks = judge.profile.launch.world_size
    if 1 < ranks <= model.pieces and model.pieces % ranks:
        pieces = f"{model.pieces} trees" if model.method != BOOSTING else f"{model.pieces} labels"
        judge.warn(
            f"a round grows {pieces}, which {ranks} ranks cannot share evenly, so some of them wait",
            "model.trees_per_round",
            "launch.ranks_per_node",
        )
    inputs = {*data.features, *data.errors.values()}
    for number, label in enumerate(model.labels):
        where = f"model.labels.{number}"
        if label.column in inputs:
            message = f"'{label.column}' is also an input in data.features; a model would copy it. Remove it there"
            judge.problem(message, f"{where}.column", "data.features")
        if model.method == BOOSTING and label.kind in (CIRCULAR, DENSITY):
            message = f"{label.kind} labels are learned by method: forest only"
            judge.problem(message, f"{where}.kind", "model.method")
    for key in ("learning_rate", "splits"):
        if model.method != BOOSTING and judge.is_written(f"model.{key}"):
            judge.warn("has no effect: it is for method: boosting", f"model.{key}", "model.method")
