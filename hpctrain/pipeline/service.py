"""Which objects the versions of a model have seen: what is new, and on what nobody was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hpctrain.errors import DataError
from hpctrain.pipeline.folder import StageDir
from hpctrain.pipeline.section import StageSection
from hpctrain.registry.aliases import history_of, kept
from hpctrain.registry.folder import ModelFolder, Registry, registry_at
from hpctrain.registry.names import CHAMPION
from hpctrain.registry.seen import SIDES, read_lineage
from hpctrain.registry.version import Version, read_version

_TRAINED = SIDES.index("training")


def folder_of(stage: StageDir) -> Path:
    """Return the folder in which the commands of a pipeline run."""
    return Path(stage.pipeline.read_record().get("cwd") or Path.cwd())


def registry_of(stage: StageDir) -> Registry:
    """Return the registry that the commands of a pipeline use."""
    return registry_at(None, folder_of(stage) / "runs")


def model_of(stage: StageDir) -> ModelFolder | None:
    """Return the registered model that a stage means; None if no stage of the pipeline names one."""
    name = stage.pipeline.section().model_of(stage.section())
    return None if name is None else registry_of(stage).model(name)


def alias_of(stage: StageSection) -> str:
    """Return the alias of the version in service."""
    return stage.alias or CHAMPION


def in_service(model: ModelFolder, alias: str) -> Version | None:
    """Return the version that an alias means; None if there is no such alias yet."""
    numbers = kept(history_of(model, alias))
    return read_version(model, numbers[-1]) if numbers else None


def seen_objects(model: ModelFolder, alias: str) -> np.ndarray:
    """Return the objects that the version in service, or one before it, has seen on any side of the split.

    Versions that were rolled back do not count, so their objects are new again.

    Returns
    -------
    ndarray, shape (K,), int64
        Identifiers, increasing.

    Raises
    ------
    DataError
        The objects of a version are not known.
    CheckpointError
        A version is damaged.
    """
    parts = [np.empty(0, np.int64)]
    for number in sorted(set(kept(history_of(model, alias)))):
        version = read_version(model, number)
        target_id = read_lineage(version)[1]["target_id"]
        if not len(target_id):
            raise DataError(
                f"{version.path}: the objects of {version} are not known, so nobody can say what is new; its data "
                "files were gone when it was added"
            )
        parts.append(target_id)
    return np.unique(np.concatenate(parts))


def trained_objects(model: ModelFolder) -> dict[str, np.ndarray]:
    """Return the identifiers (K,), int64, of the objects on which each version of a model was trained."""
    found = {}
    for number in model.numbers():
        version = read_version(model, number)
        rows = read_lineage(version)[1]
        found[str(version)] = rows["target_id"][rows["side"] == _TRAINED]
    return found
