"""Write the reports that runs on the page of all runs do not have yet."""

from __future__ import annotations

from dataclasses import replace

from hpctrain.access import following
from hpctrain.errors import HpctrainError
from hpctrain.index.page.gather import Overview
from hpctrain.report.write import write_report
from hpctrain.rundir import RunDir


def write_missing(found: Overview) -> tuple[Overview, list[str]]:
    """Write the missing reports; one that cannot be written stops no other.

    Returns
    -------
    found : Overview
        The same, with the new reports.
    failed : list of str
        Run directories without a report, and why.
    """
    runs, failed = [], []
    for run in found.runs:
        if not run.has_report:
            try:
                with following(run.row.path):
                    write_report(RunDir(run.row.path))
                run = replace(run, has_report=True)
            except (HpctrainError, OSError, ValueError) as error:
                failed.append(f"{run.row.path}: {str(error).splitlines()[0]}")
        runs.append(run)
    return replace(found, runs=runs), failed
