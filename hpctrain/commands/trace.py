"""Say what the time of a step went to, from the steps that PyTorch's profiler recorded.

hpctrain trace            the newest run
hpctrain trace RUN        path, name, run id or job id

A run records steps if its profile asks for it, such as train.profile_steps: [100, 110]. The trace itself is in the
folder traces of the run; Perfetto and chrome://tracing open it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.runs import DEFAULT_RUNS_DIR, find_run
from hpctrain.rundir import RunDir
from hpctrain.terminal import printable

_WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``hpctrain trace``."""
    parser.add_argument("run_dir", nargs="?", metavar="RUN", help="path, name, run id or job id (default: the newest)")
    parser.add_argument(
        "--runs-dir", type=Path, default=Path(DEFAULT_RUNS_DIR), help="folder of runs (default: ./runs)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON, for programs")


def run(args: argparse.Namespace) -> int:
    """Print the summaries of all ranks that recorded steps."""
    from hpctrain.traces.words import read_summaries

    directory = find_run(args.run_dir, args.runs_dir)
    found = read_summaries(directory)
    if not found:
        raise ProfileError(str(directory.path), [Problem("traces", _why_none(directory))])
    if args.json:
        print(json.dumps({"run": str(directory.path), "traces": found}, indent=2))
        return 0
    print("\n\n".join("\n".join(_lines(directory, each)) for each in found))
    return 0


def _lines(directory: RunDir, summary: dict[str, Any]) -> list[str]:
    import textwrap

    from hpctrain.launch.present import as_typed
    from hpctrain.traces.words import HOW_TO_OPEN, in_words, kernel_rows

    first, *rest = in_words(summary)
    lines = [first[0].upper() + first[1:]]
    for text in rest:
        lines += textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="    ")
    rows = kernel_rows(summary)
    if rows:
        lines += ["", f"  {'time':>7}  {'calls a step':>12}  {'kernel' if 'device' in summary else 'operator'}"]
        lines += [f"  {share:>7}  {calls:>12}  {printable(name)}" for share, calls, name in rows]
    if "trace" in summary:
        lines += ["", f"  {as_typed(directory.traces / summary['trace'])}", f"  {HOW_TO_OPEN}"]
    return lines


def _why_none(directory: RunDir) -> str:
    """Return why a run has no trace, and how to get one."""
    from hpctrain.metrics.events import NotTraced
    from hpctrain.metrics.read import read_history

    event = read_history(directory).newest(NotTraced)
    said = f"there is none: {event.describe()}" if event is not None else "this run has recorded no steps"
    return f"{said}; start a run with train.profile_steps: [100, 110], or other steps"
