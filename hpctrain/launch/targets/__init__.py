"""The places where a job can run: one class per platform behind one contract (:mod:`hpctrain.launch.targets.target`).

The registry is in :mod:`hpctrain.plugins`, where the checks of a profile can see it too. Outside this package, no code
compares the name of a target: it asks the target.
"""

from __future__ import annotations

import os
from typing import cast

from hpctrain.launch.targets.target import Target
from hpctrain.plugins import TARGETS, PluginError
from hpctrain.profile.targets import choose_target, is_module_name, load_target
from hpctrain.records import Record
from hpctrain.rundir import RunDir

__all__ = ["TARGETS", "choose_target", "find_target", "target_of", "with_a_script"]


def find_target(name: str) -> Target:
    """Return a new instance of the target of this name.

    Raises
    ------
    PluginError
        There is no such target, or its module cannot be used.
    """
    return cast(Target, load_target(name))


def target_of(run: RunDir, job: Record | None = None) -> Target | None:
    """Return the target that a run was submitted to.

    Another user may have written ``job.json``. A module that it names is therefore imported only if the file belongs to
    this user.

    Parameters
    ----------
    run : RunDir
    job : Record, optional
        Its ``job.json``, if it was read already.

    Returns
    -------
    Target or None
        None if ``job.json`` is absent or damaged, or names a target that is not installed here.
    """
    name = (run.read_job() if job is None else job).get("cluster")
    if name is None or (is_module_name(name) and not _is_ours(run)):
        return None
    try:
        return find_target(name)
    except PluginError:
        return None


def with_a_script() -> str:
    """Return the name of the first target whose jobs are scripts that a user can read."""
    return next(name for name in TARGETS if find_target(name).requeues == "script")


def _is_ours(run: RunDir) -> bool:
    try:
        return os.lstat(run.job).st_uid == os.geteuid()
    except OSError:
        return False
