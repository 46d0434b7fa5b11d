"""The folder of the registry, which holds the trail: the default, and the one that belongs to a run."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "HPCTRAIN_REGISTRY"
"""Variable of the environment that names the folder of the registry."""
DEFAULT = "registry"
FILE = "audit.jsonl"
_CONTENTS = ("registry.yaml", "models", FILE)
_HIGHEST = 6
"""Number of folders above a path to look beside; a fold of a study has the longest way, and a pipeline's stage."""


def registry_folder(given: str | Path | None, runs_dir: str | Path = "runs") -> Path:
    """Return the folder of the registry that a user means, whether it exists or not.

    Parameters
    ----------
    given : str, Path or None
        The folder; if None, that of the variable HPCTRAIN_REGISTRY, else ``registry`` beside the folder of runs.
    runs_dir : str or Path
    """
    chosen = given or os.environ.get(VARIABLE) or Path(runs_dir).expanduser().absolute().parent / DEFAULT
    return Path(chosen).expanduser().absolute()


def registry_of(path: str | Path) -> Path | None:
    """Return the registry that records what is done to a run, a study, a trial, a pipeline or its stage.

    It is the folder that HPCTRAIN_REGISTRY names; else the nearest folder ``registry`` beside one of the folders above
    `path` that is a registry, or that is empty, because somebody has just made it.

    Returns
    -------
    Path or None
        None if there is no registry.
    """
    if named := os.environ.get(VARIABLE):
        folder = Path(named).expanduser().absolute()
        return folder if folder.is_dir() else None
    above = Path(path).expanduser().absolute().parents
    beside = (folder / DEFAULT for folder in above[:_HIGHEST])
    return next((folder for folder in beside if _is_registry(folder)), None)


def _is_registry(folder: Path) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return not names or any(name in names for name in _CONTENTS)
