"""``python -m hpctrain.train RUN_DIR``: one rank of a run; the same under srun, torchrun or alone.

Exit codes: 0 finished, 1 our bug, 2 profile, 3 cluster, 4 data, 5 checkpoint, 6 diverged, 75 saved and to be requeued,
76 hung or lost the other ranks, 77 some nodes are not fit, 78 too hot (saved), 130 interrupted by hand (saved).
"""

from __future__ import annotations

# Signals are ours before anything slow is imported: importing torch takes seconds, and a warning in them would kill.
import os
import signal
import sys

_EARLY = {signal.SIGUSR2, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, _EARLY)  # they wait until StopRequest.install lets them through


def main(arguments: list[str]) -> int:
    """Train the run directory named on the command line and return the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    from hpctrain.distributed.group import is_lost_peer
    from hpctrain.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_RANKS_LOST, HpctrainError
    from hpctrain.terminal import printable
    from hpctrain.train.attempt import run_attempt

    try:
        return run_attempt(arguments[0])
    except HpctrainError as error:
        print(printable(f"hpctrain: {error}"), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        if is_lost_peer(error):
            print(f"hpctrain: another rank is gone: {str(error).splitlines()[0]}", file=sys.stderr)
            return EXIT_RANKS_LOST
        import traceback  # our bug: shown whole

        traceback.print_exc()
        return EXIT_BUG


def _end(code: int) -> None:
    """Leave without the interpreter's tear-down, which torch's Gloo does not always survive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(main(sys.argv[1:]))
