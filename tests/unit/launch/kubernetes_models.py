"""Hold manifests on the standard input against the published models; print every difference as a line.

It runs in an environment with kubernetes-validate, kubeflow-trainer-api and kubeflow-training.
"""

from __future__ import annotations

import sys
from typing import Any

import kubernetes_validate
import yaml

VERSIONS = ("1.31", "1.37")
"""The oldest and the newest version of Kubernetes whose schemas the package has and that we support."""


def of_kubernetes(item: dict[str, Any]) -> list[str]:
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{item['kind']} {version}: {error.message}")
    return found


def of_model(item: dict[str, Any], model: Any) -> list[str]:
    """Return the entries that a model does not know: it drops them silently."""
    return [f"{item['kind']}: {line}" for line in differences(item, model.from_dict(item).to_dict(), "")]


def differences(ours: Any, theirs: Any, where: str) -> list[str]:
    pairs: list[tuple[str, Any, Any]] = []
    lost: list[str] = []
    if isinstance(ours, dict) and isinstance(theirs, dict):
        lost = [f"{where}.{key} is unknown" for key in ours if key not in theirs]
        pairs = [(f"{where}.{key}", ours[key], theirs[key]) for key in ours.keys() & theirs]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = [(f"{where}.{index}", *pair) for index, pair in enumerate(zip(ours, theirs, strict=True))]
    elif ours != theirs:
        lost = [f"{where}: {ours!r} became {theirs!r}"]
    return lost + [line for place, our, their in pairs for line in differences(our, their, place)]


def of_training(item: dict[str, Any]) -> list[str]:
    from kubeflow.training import models

    # The generated classes keep what they know by names of attributes; pods are those of Kubernetes.
    def walk(value: Any, kind: str, where: str) -> list[str]:
        model = getattr(models, kind, None)
        if model is None or not isinstance(value, dict):
            return []
        names = {theirs: ours for ours, theirs in model.attribute_map.items()}
        found = [f"{where}.{key} is unknown to {kind}" for key in value if key not in names]
        for key in value.keys() & names:
            inner = model.openapi_types[names[key]]
            parts = value[key].items() if inner.startswith("dict(str, ") else [("", value[key])]
            inner = inner.removeprefix("dict(str, ").rstrip(")")
            for name, part in parts:
                found += walk(part, inner, f"{where}.{key}{'.' if name else ''}{name}")
        return found

    return walk(item, "KubeflowOrgV1PyTorchJob", "PyTorchJob")


def main() -> None:
    from kubeflow_trainer_api import models

    by_kind = {
        "JobSet": models.JobsetV1alpha2JobSet,
        "TrainJob": models.TrainerV1alpha1TrainJob,
        "TrainingRuntime": models.TrainerV1alpha1TrainingRuntime,
    }
    for item in yaml.safe_load_all(sys.stdin):
        if item is None:
            continue
        if item["kind"] in by_kind:
            lines = of_model(item, by_kind[item["kind"]])
        elif item["kind"] == "PyTorchJob":
            lines = of_training(item)
        else:
            lines = of_kubernetes(item)
        print(*lines, sep="\n", end="\n" if lines else "")


main()
