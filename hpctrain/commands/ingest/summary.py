"""What ``hpctrain ingest`` prints: a bar while it reads, and the summary."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from hpctrain.terminal import console

if TYPE_CHECKING:
    from hpctrain.ingest.process import IngestPlan
    from hpctrain.ingest.run import IngestResult

MOST_NAMED = 10
"""Largest number of lines on skipped files."""


def run_with_progress(plan: IngestPlan, run_ingest: Any) -> IngestResult:
    """Run an ingest; show a bar on a terminal."""
    screen = console(sys.stderr)
    if not screen.is_terminal:
        return run_ingest(plan)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn())
    counts = TextColumn(
        "[green]{task.fields[kept]} kept[/] [yellow]{task.fields[dropped]} dropped[/] {task.fields[failed]}"
    )
    with Progress(*columns, counts, console=screen, transient=True) as progress:
        task = progress.add_task(f"ingest {plan.survey}", total=len(plan.paths), kept=0, dropped=0, failed="")

        def show(_: Any, tally: Any) -> None:
            failed = f"[red]{len(tally.failed_files)} unreadable[/]" if tally.failed_files else ""
            progress.update(
                task, completed=tally.num_files, kept=tally.num_kept, dropped=tally.num_dropped, failed=failed
            )

        return run_ingest(plan, show)


def print_summary(plan: IngestPlan, result: IngestResult, skipped: dict[str, str]) -> None:
    """Print what was read, kept, dropped and skipped, and warnings on standard error."""
    from hpctrain.ingest.tally import lines_by_reason

    tally, wavelength = result.tally, result.wavelength_aa
    span = f"{len(wavelength)} pixels from {wavelength[0]:.1f} to {wavelength[-1]:.1f} AA"
    seconds = max(result.seconds, 1e-9)
    speed = f"{result.seconds:.1f} s, {tally.num_files / seconds:.0f} files/s, {tally.num_read / seconds:.0f} spectra/s"
    print(f"{plan.out}: {_number(tally.num_kept, 'spectra', 'spectrum')} of {_number(result.num_objects, 'objects')}")
    print(f"  grid     {result.grid_name}; {span}; ivar {plan.ivar_convention}")
    print(
        f"  read     {_number(tally.num_read, 'spectra', 'spectrum')} in {_number(tally.num_files, 'files')} ({speed})"
    )
    print(f"  kept     {tally.num_kept}")
    if tally.num_merged:
        print(f"  merged   {_number(tally.num_merged, 'exposures')} into the coadd of their target")
    print(f"  dropped  {tally.num_dropped}")
    for reason, count in tally.dropped.most_common():
        print(f"    {count:6d}  {reason}")
    for remark, count in tally.remarks.most_common():
        print(f"  note     {count}: {remark}")
    if skipped:
        print(f"  skipped  {_number(len(skipped), 'files')}")
        lines = lines_by_reason(list(skipped.items()))
        for line in lines[:MOST_NAMED]:
            print(f"    {line}")
        if len(lines) > MOST_NAMED:
            print(f"    and {len(lines) - MOST_NAMED} more reasons (--summary has all)")
    for remark in result.warnings:
        print(f"warning: {remark}", file=sys.stderr)
    if tally.failed_files:
        print(f"could not be read (to the end): {_number(len(tally.failed_files), 'files')}", file=sys.stderr)
        for line in tally.failures():
            print(f"  {line}", file=sys.stderr)


def _number(count: int, plural: str, singular: str = "") -> str:
    return f"{count} {(singular or plural.removesuffix('s')) if count == 1 else plural}"
