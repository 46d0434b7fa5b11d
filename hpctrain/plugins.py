"""Find the parts that a name in a profile chooses: model families, kinds of data, targets.

A name is one of those that hpctrain ships, an entry point of an installed package, or the dotted name of a module on
Python's path. Nothing is imported before its name is asked for.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hpctrain.errors import HpctrainError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

DEFAULT_FAMILY = "spectral_vae"
"""Family of a profile that names none."""

FAMILIES: Mapping[str, str] = {
    "spectral_vae": "hpctrain.families.spectral_vae.family",
    "spectral_cnn": "hpctrain.families.spectral_cnn.family",
    "trees": "hpctrain.families.trees.family",
    "image_cnn": "hpctrain.families.image_cnn.family",
    "light_curve_transformer": "hpctrain.families.light_curve_transformer.family",
    "clusters": "hpctrain.families.clusters.family",
}
"""Module of each shipped model family, by the name in ``model.family``."""

KINDS: Mapping[str, str] = {
    "spectra": "hpctrain.kinds.spectra.kind",
    "catalogue": "hpctrain.kinds.catalogue.kind",
    "light_curves": "hpctrain.kinds.light_curves.kind",
    "images": "hpctrain.kinds.images.kind",
}
"""Module of each shipped kind of data, by the name in the ``kind`` of a family."""

TARGETS: Mapping[str, str] = {
    "slurm": "hpctrain.launch.targets.slurm",
    "local": "hpctrain.launch.targets.local",
    "kubernetes": "hpctrain.launch.targets.kubernetes",
    "sagemaker": "hpctrain.launch.targets.sagemaker",
    "vertex": "hpctrain.launch.targets.vertex",
    "azureml": "hpctrain.launch.targets.azureml",
    "ray": "hpctrain.launch.targets.ray",
}
"""Module of each shipped target, by the name in ``launch.cluster``, in the order in which ``auto`` tries them; this
machine is always available, so nobody gets onto a later one by chance."""


class PluginError(HpctrainError):
    """A name that leads to no part, or to a module that cannot be imported."""

    exit_code = 2


def find_plugin(name: str, shipped: Mapping[str, str], group: str, attribute: str) -> Any:
    """Import what a name stands for.

    Parameters
    ----------
    name : str
        A key of `shipped`, an entry point, or the dotted name of a module.
    shipped : mapping of str to str
        Modules of hpctrain by name.
    group : str
        Group of the entry points, such as ``hpctrain.families``.
    attribute : str
        Name in the module of the object to return, such as ``FAMILY``.

    Raises
    ------
    PluginError
        Nothing has this name, its module cannot be imported, or it lacks the attribute.
    """
    if name in shipped:
        return getattr(importlib.import_module(shipped[name]), attribute)
    entries = _entries(group)
    module = entries[name].value if name in entries else name
    if name not in entries and not _is_dotted(name):
        known = ", ".join([*shipped, *entries])
        raise PluginError(f"'{name}' is not one of {known}, nor the dotted name of a module of yours")
    module, _, inside = module.partition(":")
    found = _import(module)
    for part in (inside or attribute).split("."):
        if not hasattr(found, part):
            raise PluginError(f"module '{module}' ({getattr(found, '__file__', 'no file')}) defines no {part}")
        found = getattr(found, part)
    return getattr(found, attribute) if isinstance(found, ModuleType) else found


def names(shipped: Mapping[str, str], group: str) -> list[str]:
    """Return the names that are known: those of hpctrain, then those of installed packages."""
    return [*shipped, *_entries(group)]


def _entries(group: str) -> dict[str, EntryPoint]:
    from importlib import metadata  # takes longer than the rest of a check's imports

    return {entry.name: entry for entry in metadata.entry_points(group=group)}


def _is_dotted(name: str) -> bool:
    parts = name.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def _import(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise PluginError(
                f"there is no module '{error.name}' on Python's path; install its package (pip install -e FOLDER), or "
                "add its folder to PYTHONPATH"
            ) from error
        raise PluginError(f"module '{module}' imports '{error.name}', which is not installed") from error
    except Exception as error:  # any error of a user's module
        last = traceback.extract_tb(error.__traceback__)[-1]
        file, line = getattr(error, "filename", None) or last.filename, getattr(error, "lineno", None) or last.lineno
        what = f"{type(error).__name__}: {error} ({file}, line {line})"
        raise PluginError(f"module '{module}' cannot be imported: {what}") from error
