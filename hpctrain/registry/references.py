"""``registry:NAME@champion`` wherever a run or a model folder is meant."""

from __future__ import annotations

from pathlib import Path

from hpctrain.launch.runs import path_or_run

SCHEME = "registry:"
"""What begins an argument that means a registered version, and not a run or a path."""


def is_registered(text: str) -> bool:
    """Return whether a text means a registered version, and not a run or a path."""
    return text.startswith(SCHEME)


def model_at(text: str, runs_dir: Path) -> Path:
    """Return the path that a user means by a registered version, a run, a model folder or a file.

    Parameters
    ----------
    text : str
        ``registry:NAME@champion``, ``registry:NAME:3`` or ``registry:NAME``, whose files are verified; else as of
        :func:`~hpctrain.launch.runs.path_or_run`.
    runs_dir : Path
        Folder to search for the run; the registry is beside it unless HPCTRAIN_REGISTRY names another.

    Returns
    -------
    Path
        The folder of the version, which is laid out like a run directory.

    Raises
    ------
    ProfileError
        There is no such version.
    CheckpointError
        The version is damaged.
    """
    if not is_registered(text):
        return path_or_run(text, runs_dir)
    from hpctrain.registry.actions import resolve  # pydantic: not for a command that only has a path
    from hpctrain.registry.folder import registry_at

    return resolve(text, registry_at(None, runs_dir)).path
