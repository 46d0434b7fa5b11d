"""Entries in the audit trail for what is done to runs: only where there is a registry beside them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hpctrain.errors import SiteError
from hpctrain.registry.folder import registry_at
from hpctrain.registry.trail import record


def note(runs_dir: str | Path, action: str, subject: str, **details: Any) -> None:
    """Record an action in the trail of the registry beside a folder of runs, if there is one.

    A trail that cannot be written is a warning here: a full disk must not keep anybody from cancelling a job.

    Parameters
    ----------
    runs_dir : str or Path
    action, subject, **details
        As of :func:`~hpctrain.registry.trail.record`.
    """
    registry = registry_at(None, runs_dir)
    if not registry.path.is_dir():
        return
    try:
        record(registry, action, subject, **details)
    except SiteError as error:
        print(f"warning: {str(error).partition(';')[0]}; the action itself goes on", file=sys.stderr)
