"""Values that the first attempt fixes for all later ones, and changes by a user between two attempts."""

from __future__ import annotations

import sys
from typing import Any

from hpctrain.metrics.events import ProfileChanged, Started
from hpctrain.metrics.record import MetricsWriter
from hpctrain.profile.families import family_of
from hpctrain.profile.load import dump_profile
from hpctrain.profile.resume import changes_by_a_user
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, read_json, write_atomic

_TRAINED = (Started.name, ProfileChanged.name)
"""Events that prove that an attempt trained with its profile."""


def settle_warmup(directory: RunDir, profile: Profile, total_steps: int, is_main: bool) -> Profile:
    """Write the default of ``train.warmup_steps`` into the run's profile, so that a longer run does not warm up again.

    Parameters
    ----------
    directory : RunDir
    profile : Profile
    total_steps : int
        Number of steps of the whole run.
    is_main : bool
        Whether this is rank 0, which writes the file; all ranks return the same profile.
    """
    if profile.train.warmup_steps is not None or family_of(profile).how == "rounds":
        return profile
    train = profile.train.model_copy(update={"warmup_steps": profile.train.warmup(total_steps)})
    settled = profile.model_copy(update={"train": train})
    if is_main:
        try:
            write_atomic(directory.profile, dump_profile(settled))
        except OSError as error:  # a full disk; the next attempt computes the same number and tries again
            print(f"hpctrain: cannot write train.warmup_steps into {directory.profile}: {error}", file=sys.stderr)
    return settled


def record_profile_changes(directory: RunDir, attempt: int, metrics: MetricsWriter, step: int) -> None:
    """Write the event ``profile_changed`` if this attempt is the first to train with changed values.

    Every attempt keeps its profile in its lease. The values are compared with those of the last attempt that recorded
    its start, so the event is written exactly once, however often attempts are killed or requeued.

    Parameters
    ----------
    directory : RunDir
    attempt : int
        Number of this attempt.
    metrics : MetricsWriter
        Writer of rank 0.
    step : int
        The step that this attempt starts from.
    """
    events = directory.read_metrics("event")
    trained = (record.get("attempt") for record in events if record.get("event") in _TRAINED)
    last = max((number for number in trained if isinstance(number, int) and number < attempt), default=0)
    old, new = _profile_of(directory, last), _profile_of(directory, attempt)
    if old is None or new is None:
        return
    if changes := changes_by_a_user(old, new):
        metrics.event(ProfileChanged(changes=[change.as_json() for change in changes]), step)


def _profile_of(directory: RunDir, attempt: int) -> dict[str, Any] | None:
    """Return the plain profile with which an attempt began; None for an attempt of an older version."""
    lease = read_json(directory.attempts / f"{attempt:04d}.json")
    profile = lease.get("profile") if isinstance(lease, dict) else None
    return profile if isinstance(profile, dict) else None
