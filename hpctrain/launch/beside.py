"""Run the command that watches an attempt from outside of its ranks, as ``attempt.sh`` does."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hpctrain.launch.plan import module_command
from hpctrain.records import Record
from hpctrain.rundir import RunDir

if TYPE_CHECKING:
    from hpctrain.profile.schema import Profile
    from hpctrain.profile.site import Site

MODULE = "hpctrain.alerts.beside"
LAST_WORDS_S = 30.0
"""Longest wait for its last message once the attempt has ended [s]."""


def command_beside(profile: Profile, site: Site | None, runs_images: bool) -> tuple[str, ...]:
    """Return the command to run beside the ranks, without its arguments; empty if nobody would hear of an alert."""
    alerts = profile.monitor.alerts
    has_hearers = alerts.command or os.environ.get(alerts.webhook_variable or "")
    return module_command(MODULE, site, runs_images) if alerts.enabled and has_hearers else ()


@contextlib.contextmanager
def beside(run: RunDir, job: Record, job_id: str, restart: int, environment: Mapping[str, str]) -> Iterator[None]:
    """Run the command ``beside`` of ``job.json``, if there is one; the block ends with the attempt on record."""
    command = job.get("beside")
    if not command:
        yield
        return
    try:
        process = subprocess.Popen(
            [*command, str(run.path), job_id, str(restart)], env=dict(environment), stdin=subprocess.DEVNULL
        )
    except OSError as error:
        print(f"hpctrain: {command[0]}: {error.strerror}; alerts of this attempt come from its ranks alone", flush=True)
        yield
        return
    try:
        yield
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LAST_WORDS_S)
    finally:
        process.kill()
        process.wait()
