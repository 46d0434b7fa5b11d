"""Rules of the ``model`` section: values that are valid alone but do not fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpctrain.families.light_curve_transformer.section import GRU

if TYPE_CHECKING:
    from hpctrain.profile.judge import Judge


def check_network(judge: Judge) -> None:
    """Judge heads, keys without effect, and labels that are inputs too."""
    profile = judge.profile
    model, data = profile.model, profile.data
    if model.encoder == GRU:
        for key in ("heads", "feedforward"):
            if judge.is_written(f"model.{key}"):
                judge.warn("has no effect: it is for encoder: transformer", f"model.{key}", "model.encoder")
    elif model.width % model.heads:
        fitting = [number for number in range(1, model.width + 1) if model.width % number == 0]
        near = min(fitting, key=lambda number: abs(number - model.heads))
        message = f"{model.width} is no multiple of {model.heads} heads; use for example heads: {near}"
        judge.problem(message, "model.width", "model.heads")
    for number, label in enumerate(model.labels):
        for key, inputs in (("data.features", data.features), ("data.fold", [data.fold])):
            if label.column in inputs:
                message = f"'{label.column}' is also an input in {key}; a model would copy it. Remove it there"
                judge.problem(message, f"model.labels.{number}.column", key)
    if profile.train.compile:
        message = "batches of light curves have different lengths, and each length is compiled anew; this rarely pays"
        judge.warn(message, "train.compile")
