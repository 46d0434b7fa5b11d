"""``python -m hpctrain.train RUN_DIR``: one rank of a run; the same under srun, torchrun or alone.

Exit codes: 0 finished, 1 our bug, 2 profile, 3 cluster, 4 data, 5 checkpoint or full disk, 6 diverged, 75 saved and to
be requeued, 76 hung or lost the other ranks, 77 unfit nodes, 78 too hot (saved), 130 interrupted by a user (saved).
"""

from __future__ import annotations

# Importing torch takes seconds. A warning signal that arrives meanwhile would kill this process, so it is blocked here.
import gc
import os
import signal
import sys
from collections.abc import Callable

_EARLY = {signal.SIGUSR2, signal.SIGTERM}


def hold_signals() -> None:
    """Block the warning signals until StopRequest.install unblocks them, and collect no garbage during imports."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _EARLY)
    gc.disable()  # imports leave hardly any garbage, and to look for it takes a tenth of their time


if __name__ == "__main__":
    hold_signals()


def main(arguments: list[str]) -> int:
    """Train the run directory named on the command line and return the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2

    def attempt() -> int:
        from hpctrain.train.attempt import run_attempt

        return run_attempt(arguments[0])

    code = guarded(attempt)
    if 0 < code < 10 and os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0":
        print(f"hpctrain: what may help: hpctrain advise {arguments[0]}", file=sys.stderr)
    return code


def guarded(attempt: Callable[[], int]) -> int:
    """Import the trainer and run an attempt; return its exit code, whatever error it raises."""
    from hpctrain.fulldisk import is_disk_full, tolerate_full_log

    tolerate_full_log()
    import hpctrain.train.attempt  # noqa: F401  (before what it leaves behind is frozen)
    from hpctrain.credentials.hide import error_line, hide_in_tracebacks, print_error
    from hpctrain.distributed.group import is_lost_peer
    from hpctrain.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_RANKS_LOST, CheckpointError, HpctrainError

    hide_in_tracebacks()
    gc.freeze()
    gc.enable()
    try:
        return attempt()
    except HpctrainError as error:
        print(f"hpctrain: {error_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        if is_disk_full(error):
            print(
                f"hpctrain: {error}\n  the disk of the run directory is full: free some room, then start the run "
                "again; it resumes from the newest checkpoint",
                file=sys.stderr,
            )
            return CheckpointError.exit_code
        if is_lost_peer(error):
            print(f"hpctrain: another rank is gone: {str(error).splitlines()[0]}", file=sys.stderr)
            return EXIT_RANKS_LOST
        print_error(type(error), error, error.__traceback__)  # our bug: print the whole traceback
        return EXIT_BUG


def end(code: int) -> None:
    """Exit without the interpreter's clean-up, in which torch's Gloo sometimes aborts."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    end(main(sys.argv[1:]))
