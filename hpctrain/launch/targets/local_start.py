"""``python -m hpctrain.launch.targets.local_start RUN``: start the supervisor of a local run by submitit, and exit."""

from __future__ import annotations

import shlex
import sys

from hpctrain.access import enter
from hpctrain.rundir import RunDir

_YEARS_MIN = 60 * 24 * 365 * 20
"""submitit ends local jobs at its own time limit, two minutes by default; a local run has no time limit."""


def main(path: str) -> None:
    """Start the supervisor of the run at `path`."""
    from submitit.local.local import LocalExecutor

    run = RunDir(path)
    enter(run.path)
    executor = LocalExecutor(folder=run.logs / "supervisor")
    executor.update_parameters(timeout_min=_YEARS_MIN, signal_delay_s=0, stderr_to_stdout=True)
    # Our supervisor is its one task, instead of a pickled callable.
    executor._submit_command(shlex.join([sys.executable, "-u", "-m", "hpctrain.launch.supervisor", str(run.path)]))


if __name__ == "__main__":
    main(sys.argv[1])
