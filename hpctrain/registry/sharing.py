"""Apply ``access`` and ``group`` of ``registry.yaml`` to the folder of a registry, which its owner alone can do."""

from __future__ import annotations

import os
import stat

from hpctrain.access import GROUP, group_number
from hpctrain.access_tree import Changed, change_tree, permissions
from hpctrain.registry.folder import Registry
from hpctrain.registry.policy import RegistryPolicy


def settle(registry: Registry, policy: RegistryPolicy) -> None:
    """Give a registry the permissions of its rules if they differ and its folder belongs to this user.

    What other users have added keeps its permissions; what is added from now on gets those of the folder.

    Raises
    ------
    SiteError
        There is no such group, or this user is not in it.
    """
    if policy.access is None:
        return
    facts = registry.path.stat()
    if facts.st_uid == os.geteuid() and not _is_settled(facts, policy.access, group_number(policy.group)):
        change_tree(registry.path, policy.access, policy.group, keeps_provenance=True, only_mine=True)


def _is_settled(facts: os.stat_result, access: str, group: int | None) -> bool:
    fits = stat.S_IMODE(facts.st_mode) == permissions(facts.st_mode, access)
    return fits and (access != GROUP or group is None or facts.st_gid == group)


def share(registry: Registry, access: str, group: str | None = None) -> Changed:
    """Give everything in a registry the permissions of `access`; what nobody may write stays so.

    Raises
    ------
    SiteError
        As of :func:`~hpctrain.access_tree.change_tree`.
    """
    return change_tree(registry.path, access, group, keeps_provenance=True)
