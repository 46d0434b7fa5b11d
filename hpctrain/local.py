"""``python -m hpctrain.local``: train (``hpctrain local``) or infer (``hpctrain infer``) on a Jetson or a workstation.

::

    python -m hpctrain.local PROFILE [--set KEY=VALUE] [--from RUN|BUNDLE] [--resume [RUN]]
    python -m hpctrain.local --infer BUNDLE FILE ... [--out LATENTS.h5]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hpctrain.cli import run_command

_PROGRAM = "python -m hpctrain.local"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train or infer, and return the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if "--infer" in arguments:
        rest = [argument for argument in arguments if argument != "--infer"]
        return run_command("infer", rest, prog=f"{_PROGRAM} --infer")
    return run_command("local", arguments, prog=_PROGRAM)


if __name__ == "__main__":
    sys.exit(main())
