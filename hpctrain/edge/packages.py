"""Packages that an export needs and a training run does not; an error names the command that installs them."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from hpctrain.errors import SiteError


def need(*names: str, extra: str = "export") -> list[ModuleType]:
    """Import packages.

    Parameters
    ----------
    *names : str
        Modules.
    extra : str
        Extra of hpctrain that installs them.

    Raises
    ------
    SiteError
        Packages are not installed; the message names all of them and the command that installs them.
    """
    # onnxruntime (seen in 1.31) sends data about its use to Microsoft unless this is set before it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    found, missing = [], []
    for name in names:
        try:
            found.append(importlib.import_module(name))
        except ImportError as error:
            missing.append(f"{name} ({error})")
    if missing:
        raise SiteError(f"not installed: {', '.join(missing)}; run: pip install 'hpctrain[{extra}]'")
    return found
