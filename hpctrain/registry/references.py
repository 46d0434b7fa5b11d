"""``registry:NAME@champion`` wherever a run or a model folder is meant."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.launch.runs import path_or_run

if TYPE_CHECKING:
    from hpctrain.signing.keys import Anchor

SCHEME = "registry:"
"""What begins an argument that means a registered version, and not a run or a path."""
_BUNDLE = "bundle.json"
"""The file that makes a folder a bundle, as in :mod:`hpctrain.edge.bundle`, whose import takes longer."""


def is_registered(text: str) -> bool:
    """Return whether a text means a registered version, and not a run or a path."""
    return text.startswith(SCHEME)


def model_at(text: str, runs_dir: Path, anchors: Sequence[Anchor] = ()) -> Path:
    """Return the path that a user means by a registered version, a run, a model folder or a file.

    Parameters
    ----------
    text : str
        ``registry:NAME@champion``, ``registry:NAME:3`` or ``registry:NAME``, whose files are verified; else as of
        :func:`~hpctrain.launch.runs.path_or_run`.
    runs_dir : Path
        Folder to search for the run; the registry is beside it unless HPCTRAIN_REGISTRY names another.
    anchors : sequence of Anchor
        Refuse what none of these keys has signed. Without them HPCTRAIN_PUBLIC_KEYS counts for versions and bundles,
        and else the rules of the registry for its versions.

    Returns
    -------
    Path
        The folder of the version, which is laid out like a run directory.

    Raises
    ------
    ProfileError
        There is no such version.
    CheckpointError
        The version is damaged, or is not signed by a trusted key.
    """
    if not is_registered(text):
        return _signed(path_or_run(text, runs_dir), anchors)
    from hpctrain.registry.actions import resolve  # pydantic: not for a command that only has a path
    from hpctrain.registry.folder import registry_at

    return resolve(text, registry_at(None, runs_dir), anchors).path


def _signed(path: Path, anchors: Sequence[Anchor]) -> Path:
    """Return a path if what lies there has the signature that the user asks for."""
    from hpctrain.signing.keys import VARIABLE, anchors_of_environment

    folder = path.parent if path.name == _BUNDLE else path
    if not anchors and os.environ.get(VARIABLE) and (folder / _BUNDLE).is_file():
        anchors = anchors_of_environment()
    if anchors:
        from hpctrain.signing.verify import require_signature

        require_signature(folder, anchors)
    return path
