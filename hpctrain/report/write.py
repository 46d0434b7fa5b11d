"""Run directory in, ``report.html`` out."""

from __future__ import annotations

from pathlib import Path

from hpctrain.report.gather import gather_facts
from hpctrain.report.page import render_page
from hpctrain.rundir import RunDir, write_atomic


def write_report(run: RunDir, path: Path | None = None, now: float | None = None) -> Path:
    """Write the report of a run, whole or not at all.

    Parameters
    ----------
    run : RunDir
        A run in any state.
    path : Path, optional
        Where to write; none is ``report.html`` in the run directory.
    now : float, optional
        Seconds since 1970; none is the clock.

    Returns
    -------
    Path
        The file written, absolute.
    """
    path = (path or run.report).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, render_page(gather_facts(run, now)))
    return path
