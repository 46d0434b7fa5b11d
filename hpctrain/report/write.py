"""Write the report of a run directory, or one of its drawings."""

from __future__ import annotations

from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.report.document import write_document
from hpctrain.report.gather import gather_facts
from hpctrain.report.page import render_page
from hpctrain.report.timeline import timeline_document
from hpctrain.rundir import RunDir


def write_report(run: RunDir, path: Path | None = None, now: float | None = None) -> Path:
    """Write the report of a run as a whole or not at all.

    Parameters
    ----------
    run : RunDir
        A run in any state.
    path : Path, optional
        File to write; ``report.html`` in the run directory by default.
    now : float, optional
        Seconds since 1970; the current time by default.

    Returns
    -------
    Path
        Absolute path of the written file.

    Raises
    ------
    ProfileError
        The file cannot be written, for example in another user's run directory.
    """
    return write_document(path or run.report, render_page(gather_facts(run, now)))


def write_timeline(run: RunDir, path: Path, now: float | None = None) -> Path:
    """Write the time line of a run as a self-contained SVG file; the arguments are those of :func:`write_report`.

    Raises
    ------
    ProfileError
        No attempt has begun, or the file cannot be written.
    """
    text = timeline_document(gather_facts(run, now))
    if not text:
        raise ProfileError(str(run.path), [Problem("--timeline", "no attempt has begun yet, so there is none")])
    return write_document(path, text, "--timeline")


def write_example(run: RunDir, path: Path) -> Path:
    """Write the family's drawing of one held-out sample as a self-contained SVG file.

    Raises
    ------
    ProfileError
        There is nothing to draw yet, the family draws no single sample, or the file cannot be written.
    """
    model = gather_facts(run).model
    text = model.ask("an example", lambda: model.family.example(model.results), "")
    if not text:
        reason = f"there is no drawing of a held-out {model.one}; track.figure_every_steps says when one can be made"
        raise ProfileError(str(run.path), [Problem("--example", " ".join([reason, *model.problems]))])
    return write_document(path, text, "--example")
