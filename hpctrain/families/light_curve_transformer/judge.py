"""Rules of the ``model`` section: values that are valid alone but do not fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpctrain.families.light_curve_transformer.section import GRU, NONE, TRANSFORMER
from hpctrain.kinds.light_curves.statistics import has_statistics

if TYPE_CHECKING:
    from hpctrain.profile.judge import Judge


def check_network(judge: Judge) -> None:
    """Judge heads, keys without effect, and labels that are inputs too."""
    profile = judge.profile
    model, data = profile.model, profile.data
    unread = {GRU: ("heads", "feedforward"), NONE: ("width", "layers", "heads", "feedforward", "harmonics")}
    for key in unread.get(model.encoder, ()):
        if judge.is_written(f"model.{key}"):
            judge.warn(f"has no effect with encoder: {model.encoder}", f"model.{key}", "model.encoder")
    if model.encoder == NONE and not data.all_features:
        message = "is none, so the network reads only data.statistics and data.features, which are not set"
        judge.problem(message, "model.encoder", "data.statistics")
    if model.encoder == TRANSFORMER and model.width % model.heads:
        fitting = [number for number in range(1, model.width + 1) if model.width % number == 0]
        near = min(fitting, key=lambda number: abs(number - model.heads))
        message = f"{model.width} is no multiple of {model.heads} heads; use for example heads: {near}"
        judge.problem(message, "model.width", "model.heads")
    if has_statistics(data.all_features) and (data.augment.cut or model.early_days):
        key = "data.augment.cut" if data.augment.cut else "model.early_days"
        judge.warn("has no use with statistics of whole curves, which know how a curve ends", key, "data.statistics")
    for number, label in enumerate(model.labels):
        for key, inputs in (
            ("data.features", data.features),
            ("data.fold", [data.fold]),
            ("data.statistics", set(data.all_features) - set(data.features)),
        ):
            if label.column in inputs:
                message = f"'{label.column}' is also an input in {key}; a model would copy it. Remove it there"
                judge.problem(message, f"model.labels.{number}.column", key)
    if profile.train.compile:
        message = "batches of light curves have different lengths, and each length is compiled anew; this rarely pays"
        judge.warn(message, "train.compile")
