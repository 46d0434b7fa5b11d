"""``python -m hpctrain.search.rank TRIAL``: one rank of a trial, which is a run that its study may end early.

Exit codes are those of ``python -m hpctrain.train``.
"""

from __future__ import annotations

import functools
import sys

from hpctrain.train.__main__ import end, guarded, hold_signals

if __name__ == "__main__":
    hold_signals()


def main(arguments: list[str]) -> int:
    """Train the trial named on the command line and return the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2

    def attempt() -> int:
        from hpctrain.search.folder import run_at
        from hpctrain.search.mirror import mirror_own
        from hpctrain.search.referee import StudyReferee
        from hpctrain.train.attempt import run_attempt

        trial = run_at(arguments[0])
        code = run_attempt(trial.path, new_referee=functools.partial(StudyReferee, trial))
        mirror_own(trial)
        return code

    return guarded(attempt)


if __name__ == "__main__":
    end(main(sys.argv[1:]))
