"""Run directory in, ``report.html`` out."""

from __future__ import annotations

from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.report.gather import gather_facts
from hpctrain.report.page import render_page
from hpctrain.report.timeline import timeline_document
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


def write_timeline(run: RunDir, path: Path, now: float | None = None) -> Path:
    """Write the time line of a run as an SVG file that stands alone; arguments as for :func:`write_report`.

    Raises
    ------
    ProfileError
        No attempt has begun.
    """
    text = timeline_document(gather_facts(run, now))
    if not text:
        raise ProfileError(str(run.path), [Problem("--timeline", "no attempt has begun yet, so there is none")])
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)
    return path
