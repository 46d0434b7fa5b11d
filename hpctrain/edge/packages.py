"""Packages that an export needs and a training run does not; missing ones are named with the command that installs."""

from __future__ import annotations

import importlib
from types import ModuleType

from hpctrain.errors import SiteError


def need(*names: str, extra: str = "export") -> list[ModuleType]:
    """Import packages, or raise how to install them.

    Parameters
    ----------
    *names : str
        Modules.
    extra : str
        Extra of hpctrain that brings them.

    Raises
    ------
    SiteError
        One is not installed; all that are missing are named.
    """
    found, missing = [], []
    for name in names:
        try:
            found.append(importlib.import_module(name))
        except ImportError as error:
            missing.append(f"{name} ({error})")
    if missing:
        raise SiteError(f"not installed: {', '.join(missing)}; run: pip install 'hpctrain[{extra}]'")
    return found
