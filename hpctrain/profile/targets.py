"""The places where a job can run, by name: the values of ``launch.cluster``.

A target is a class of :mod:`hpctrain.launch.targets`, which lies above this package. This module therefore knows only
the names of their modules, and imports a module when somebody asks for its target. A user's own target has the same
rights: ``launch.cluster`` may name an installed entry point of the group ``hpctrain.targets``, or a module.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import TYPE_CHECKING, Any

from hpctrain.errors import SiteError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

AUTO = "auto"
"""Value of ``launch.cluster`` that means the first available target."""
TARGETS = {
    "slurm": "hpctrain.launch.targets.slurm",
    "local": "hpctrain.launch.targets.local",
}
"""Module of each target that comes with hpctrain, in the order in which ``auto`` tries them."""
THIS_MACHINE = "local"
"""Name of the target that starts the ranks on this machine; it is always available."""
GROUP = "hpctrain.targets"
"""Group of entry points in which an installed package can offer further targets."""
MODULE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+$"
"""Form of the name of a user's own module, such as ``my_package.my_target``."""


def is_module_name(name: str) -> bool:
    """Return whether a name of a target is that of a module, such as ``my_package.my_target``."""
    return re.match(MODULE_PATTERN, name) is not None


def is_target_name(name: str) -> bool:
    """Return whether ``launch.cluster`` may have this value; nothing is imported."""
    return name in (AUTO, *TARGETS) or is_module_name(name) or bool(_entry_points(name))


def load_target(name: str) -> Any:
    """Return a new instance of a target.

    Parameters
    ----------
    name : str
        A key of :data:`TARGETS`, the name of an entry point, or the name of a module.

    Returns
    -------
    hpctrain.launch.targets.target.Target

    Raises
    ------
    SiteError
        There is no such target, or its module cannot be imported.
    """
    try:
        found = _load(name)
        make = getattr(found, "TARGET", None) if inspect.ismodule(found) else found
        if make is None:
            raise SiteError(f"target '{name}': its module has no TARGET; set it to the class of the target")
        return make()
    except Exception as error:  # the module may be anybody's
        if isinstance(error, SiteError):
            raise
        raise SiteError(f"target '{name}' cannot be loaded: {error!r}; see launch.cluster") from error


def _load(name: str) -> Any:
    if name in TARGETS:
        return importlib.import_module(TARGETS[name])
    if entries := _entry_points(name):
        return entries[0].load()
    if is_module_name(name):
        return importlib.import_module(name)
    raise SiteError(
        f"there is no target '{name}'; there are {', '.join(TARGETS)}, the entry points of the group {GROUP}, and "
        "modules such as my_package.my_target"
    )


def _entry_points(name: str) -> list[EntryPoint]:
    from importlib.metadata import entry_points  # takes longer than the rest of a check's imports

    return list(entry_points(group=GROUP, name=name))


def choose_target(wanted: str) -> str:
    """Return the name of the target to use: `wanted`, or for ``auto`` the first that is available here."""
    if wanted != AUTO:
        return wanted
    return next((name for name in TARGETS if load_target(name).is_available()), THIS_MACHINE)


def why_not(name: str) -> str | None:
    """Return why a target cannot be used; None if it can."""
    try:
        if name != AUTO:
            load_target(name)
    except SiteError as error:
        return str(error)
    return None


def is_on_this_machine(name: str) -> bool:
    """Return whether the target of this name runs the ranks here.

    False for ``auto``, which has not chosen yet, and for a target that cannot be used.
    """
    return name != AUTO and why_not(name) is None and load_target(name).is_this_machine
