"""How a stage that trains begins: with weights of a registered version, on new data and a share of the old ones."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError, Problem, ProfileError
from hpctrain.files import NewFile
from hpctrain.pipeline.folder import StageDir
from hpctrain.pipeline.fresh import files_of, good_objects
from hpctrain.pipeline.section import StageSection
from hpctrain.pipeline.service import alias_of, folder_of, model_of, registry_of, seen_objects
from hpctrain.profile.lookup import find_family
from hpctrain.profile.remote import is_remote
from hpctrain.profile.schema import Profile
from hpctrain.registry.actions import find_version
from hpctrain.registry.aliases import current
from hpctrain.registry.names import CHAMPION, read_reference
from hpctrain.registry.references import is_registered
from hpctrain.registry.version import require_whole

SEEN = "seen.npy"
"""File in the run directory with the identifiers of the old objects."""


@dataclass(frozen=True)
class Beginning:
    """What a training begins with.

    Parameters
    ----------
    changes : list of str
        Changes of the profile.
    notes : list of str
        What a reader should know, one sentence each.
    facts : dict
        The same for programs.
    """

    changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def begin(stage: StageDir, profile: Profile) -> Beginning:
    """Return what the training of a stage begins with; the identifiers of old objects are written into its folder.

    Parameters
    ----------
    stage : StageDir
    profile : Profile
        Without these changes; its files have absolute paths.

    Raises
    ------
    DataError
        No file is there, or the objects of a version are not known.
    ProfileError
        There is no such version or run.
    CheckpointError
        A version is damaged.
    """
    own = stage.section()
    found = Beginning()
    if own.start is None and own.replay is None:
        return found
    _list_files(own, profile, found)
    if own.start is not None:
        _start(stage, own, profile, found)
    if own.replay is not None:
        _replay(stage, own, profile, found)
    found.changes.append(f"data.files={json.dumps(found.facts['files'])}")
    return found


def _list_files(own: StageSection, profile: Profile, found: Beginning) -> None:
    """Name each file: a pattern would also match files that come later, which the model has not seen."""
    patterns = profile.data.files
    remote = [pattern for pattern in patterns if is_remote(pattern)]
    files = list(dict.fromkeys([path for pattern in patterns for path in files_of(pattern)] + remote))
    if not files:
        raise DataError(f"stage {own.name}: no file matches {', '.join(patterns)}")
    found.facts["files"] = files


def _old_files(own: StageSection, profile: Profile, seen: np.ndarray, found: Beginning) -> list[str]:
    """Return the further files of which all objects were seen; others have come since the new data were looked at."""
    assert own.replay is not None
    known = set(found.facts["files"])
    others = sorted({path for pattern in own.replay.data for path in files_of(pattern)} - known)
    old = [path for path in others if np.isin(good_objects(profile, path), seen, assume_unique=True).all()]
    if left := len(others) - len(old):
        found.notes.append(f"{left} file{'' if left == 1 else 's'} with other objects that are not old left out")
    return old


def _start(stage: StageDir, own: StageSection, profile: Profile, found: Beginning) -> None:
    assert own.start is not None
    family = find_family(profile.model.family)
    if family.how == "rounds":
        found.notes.append(f"{family.name} learns in rounds and begins anew, on old and new data")
        return
    weights = _weights(stage, own.start.weights, found)
    if weights is not None:
        found.changes.extend([f"train.init_from={json.dumps(str(weights))}", *own.start.set])
        found.facts["weights"] = str(weights)


def _weights(stage: StageDir, text: str, found: Beginning) -> Path | None:
    """Return the folder that holds the weights; None where an alias does not exist yet."""
    if not is_registered(text):
        found.notes.append(f"starts from the weights of {text}")
        return Path(os.path.normpath(folder_of(stage) / text))
    registry, reference = registry_of(stage), read_reference(text)
    model = registry.model(reference.name)
    if reference.number is None and current(model, reference.alias or CHAMPION) is None:
        found.notes.append(f"{reference.name} has no {reference.alias or CHAMPION} yet; trains from scratch")
        return None
    version = require_whole(find_version(text, registry))
    found.notes.append(f"starts from the weights of {version}")
    found.facts["started_from"] = str(version)
    return version.path


def _replay(stage: StageDir, own: StageSection, profile: Profile, found: Beginning) -> None:
    assert own.replay is not None
    model = model_of(stage)
    if model is None:
        message = f"stage {own.name}: replay needs the name of the model; set replay.model"
        raise ProfileError(str(stage.pipeline.file), [Problem("replay", message)])
    seen = seen_objects(model, alias_of(own))
    found.facts["replay"] = {"share": own.replay.share, "seen": len(seen)}
    if not len(seen):
        return
    found.facts["files"] += _old_files(own, profile, seen, found)
    with NewFile(stage.path / SEEN) as new:
        np.save(new.stream, seen)
    section = {"share": own.replay.share, "seen": str(stage.path / SEEN)}
    found.changes.append(f"data.replay={json.dumps(section)}")
    found.notes.append(f"replays {100 * own.replay.share:g} % of the {len(seen):,} objects that were seen before")
