"""Entries in the audit trail for what is done to runs, studies and pipelines: only where there is a registry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hpctrain.errors import SiteError
from hpctrain.trail.chain import record
from hpctrain.trail.folder import registry_of


def note(action: str, path: str | Path, **details: Any) -> None:
    """Record what was done to a run, a study or a pipeline in the trail of the registry beside it, if there is one.

    A trail that cannot be written is a warning here: a full disk must not keep anybody from cancelling a job.

    Parameters
    ----------
    action : str
        Such as ``submit``.
    path : str or Path
        Folder of the run, the study or the pipeline.
    **details
        Plain values, as of :func:`~hpctrain.trail.chain.record`.
    """
    registry = registry_of(path)
    if registry is None:
        return
    try:
        record(registry, action, str(Path(path).absolute()), **details)
    except SiteError as error:
        print(f"warning: {str(error).partition(';')[0]}; the action itself goes on", file=sys.stderr)
