"""What a container has to do with the mirror of its run: bring back what it lacks, and send how an attempt ended.

The disk of a container ends with it, so the mirror may be all that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from hpctrain.credentials.hide import error_line
from hpctrain.errors import CheckpointError
from hpctrain.records import is_text
from hpctrain.rundir import RunDir
from hpctrain.terminal import printable

Say = Callable[[str], object]


def bring_back(run: RunDir, say: Say) -> None:
    """Bring the run back from its mirror if this disk has less; without a network, go on with what is here.

    Parameters
    ----------
    run : RunDir
        With its profile.
    say : callable
        Tells the log of the container in one line what came or why not.
    """
    place = _mirror_of(run)
    if place is None:
        return
    from hpctrain.checkpoint.mirror import Mirror, pull

    mirror = Mirror.of(run, place)
    try:
        pulled = pull(mirror, run)
    except CheckpointError as error:
        say(f"{error_line(error)}; this attempt goes on with what is here")
        return
    for item in pulled.rejected:
        say(printable(f"skipped {item.path}: {item.reason}"))
    if pulled.step is not None:
        say(printable(f"step {pulled.step} came from {mirror.shown}"))


def send_end(run: RunDir, files: Iterable[Path], say: Say) -> None:
    """Send what was written after the ranks had ended and sent all else; if that fails, the run goes on all the same.

    Without it the next container would find an attempt without an end, and take it for one that was killed.

    Parameters
    ----------
    run : RunDir
    files : iterable of Path
        Files of the run directory.
    say : callable
        Tells the log of the container why they could not be sent.
    """
    place = _mirror_of(run)
    if place is None:
        return
    from hpctrain.checkpoint.mirror import Mirror, push_files

    try:
        push_files(Mirror.of(run, place), run, [path for path in files if path.exists()])
    except CheckpointError as error:
        say(f"{error_line(error)}; the end of this attempt is not in the mirror")


def _mirror_of(run: RunDir) -> str | None:
    """Return ``checkpoint.mirror`` of the profile, which was checked before it was submitted; the ranks load all."""
    import yaml

    try:
        checkpoint = yaml.safe_load(run.profile.read_text(encoding="utf-8"))["checkpoint"]
        return checkpoint["mirror"] if is_text(checkpoint["mirror"]) else None
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
