"""The places where a job can run, by name: the values of ``launch.cluster``.

A target is a class of :mod:`hpctrain.launch.targets`, which lies above this package. This module therefore knows only
the names of their modules, and imports a module when somebody asks for its target. A user's own target has the same
rights: ``launch.cluster`` may name an installed entry point of the group ``hpctrain.targets``, or a module.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from hpctrain.plugins import TARGETS, PluginError, find_plugin, names

AUTO = "auto"
"""Value of ``launch.cluster`` that means the first available target."""
EngineName = Literal["ray"]
"""Values of ``launch.engine``: what a job can start on its nodes to run the ranks."""
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
    return name in (AUTO, *TARGETS) or is_module_name(name) or name in names(TARGETS, GROUP)


def load_target(name: str) -> Any:
    """Return a new instance of a target.

    Parameters
    ----------
    name : str
        A key of :data:`~hpctrain.plugins.TARGETS`, the name of an entry point, or the name of a module.

    Returns
    -------
    hpctrain.launch.targets.target.Target

    Raises
    ------
    PluginError
        There is no such target, or its module cannot be used.
    """
    return find_plugin(name, TARGETS, GROUP, "TARGET")()


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
    except PluginError as error:
        return str(error)
    return None


def is_on_this_machine(name: str) -> bool:
    """Return whether the target of this name runs the ranks here.

    False for ``auto``, which has not chosen yet, and for a target that cannot be used.
    """
    return name != AUTO and why_not(name) is None and load_target(name).is_this_machine


def runs_engine(name: str, engine: str) -> bool:
    """Return whether the target of this name starts `engine` in its jobs; True if it cannot be used."""
    return why_not(name) is not None or engine in getattr(load_target(name), "engines", ())


def sees_our_files(name: str, site: Any) -> bool:
    """Return whether ranks on the target of this name see the files of this machine; True if it cannot be used."""
    return name == AUTO or why_not(name) is not None or load_target(name).sees_our_files(site)
