"""The profile of a run with the changes that its advice names."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from hpctrain.advice.advice import Advice, Change
from hpctrain.profile.check import check_profile
from hpctrain.profile.load import dump_profile, load_profile, plain_values


def changes_of(found: Iterable[Advice]) -> list[Change]:
    """Return the changes of all advice; of several changes of one key, the first."""
    kept: dict[str, Change] = {}
    for said in found:
        for change in said.changes:
            kept.setdefault(change.key, change)
    return list(kept.values())


def changed_profile(path: str, changes: Iterable[Change]) -> str:
    """Return the YAML of a profile with other values, which ``hpctrain check`` accepts.

    Parameters
    ----------
    path : str
        ``profile.yaml`` of the run.
    changes : iterable of Change

    Raises
    ------
    ProfileError
        The profile cannot be read, or has problems with the changes; the message lists all of them.
    """
    values = copy.deepcopy(plain_values(load_profile(path)))
    for change in changes:
        *around, last = change.key.split(".")
        section: dict[str, Any] = values
        for name in around:
            section = section.setdefault(name, {})
        section[last] = change.value
    findings = check_profile(values, memory=False)
    return dump_profile(findings.raise_problems())
