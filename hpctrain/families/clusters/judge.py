"""Rules of the ``model`` section: values that are valid alone but do not fit together."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from hpctrain.families.clusters.section import BIC, HDBSCAN, KMEANS, MIXTURE, STABILITY, UMAP
from hpctrain.profile.near import did_you_mean

if TYPE_CHECKING:
    from hpctrain.profile.judge import Judge

ONLY_FOR = {
    "clusters": (KMEANS, MIXTURE),
    "starts": (KMEANS, MIXTURE),
    "covariance": (MIXTURE,),
    "min_cluster_size": (HDBSCAN,),
    "min_samples": (HDBSCAN,),
}
"""Keys that have a meaning for some methods only."""


def check_clusters(judge: Judge) -> None:
    """Judge keys of other methods, the criterion, the resamples, the label."""
    model, data = judge.profile.model, judge.profile.data
    for key, methods in ONLY_FOR.items():
        if model.method not in methods and getattr(model, key) != type(model).model_fields[key].default:
            message = f"has no effect: it is for method: {' or '.join(methods)}"
            judge.warn(message, f"model.{key}", "model.method")
    key = "min_cluster_size" if model.method == HDBSCAN else "clusters"
    if len(set(model.candidates)) < len(model.candidates):
        judge.problem("names a number twice", f"model.{key}", "model.method")
    if model.criterion == BIC and model.method != MIXTURE:
        message = f"needs a likelihood, which method: {model.method} has not; use silhouette or stability"
        judge.problem(message, "model.criterion", "model.method")
    if model.resamples == 1:
        judge.problem("is 1, but stability compares two or more; use 0 or at least 2", "model.resamples")
    elif model.chooses_by == STABILITY and len(model.candidates) > 1 and model.resamples == 0:
        message = "is 0, but stability chooses from the list; use at least 2, or another criterion"
        judge.problem(message, "model.resamples", "model.criterion", f"model.{key}", "model.method")
    if model.reduce == "none" and model.components != type(model).model_fields["components"].default:
        judge.warn("has no effect: it is for reduce: pca or umap", "model.components", "model.reduce")
    if model.reduce != UMAP and model.neighbours != type(model).model_fields["neighbours"].default:
        judge.warn("has no effect: it is for reduce: umap", "model.neighbours", "model.reduce")
    if model.reduce == UMAP and judge.is_written("model.components") and not isinstance(model.components, int):
        message = f"is {model.components}, but the axes of an embedding have no share of the variance; use a number"
        judge.problem(message, "model.components", "model.reduce")
    if model.reduce == UMAP and find_spec("umap") is None:
        judge.warn("needs umap-learn, which is not installed here; pip install 'hpctrain[umap]'", "model.reduce")
    for number, name in enumerate(model.inputs or []):
        column = name.partition("[")[0]
        if name not in data.input_names and column not in data.features:
            known = data.input_names
            message = f"'{name}' is not one of the inputs{did_you_mean(name, known)}; they are {', '.join(known)}"
            judge.problem(message, f"model.inputs.{number}", "data.features", "data.differences", "data.errors")
    if model.label is not None and model.label in {*data.features, *data.errors.values()}:
        message = f"'{model.label}' is also an input; clusters that are made of it say nothing about it"
        judge.problem(f"{message}. Remove it there", "model.label", "data.features")
    if judge.profile.train.early_stopping is not None:
        message = "is for losses that fall; clusters are chosen by model.criterion when all rounds are done. Remove it"
        judge.problem(message, "train.early_stopping")
