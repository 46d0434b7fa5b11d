"""Delete runs, but none that a registered version needs."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.files import fsync_directory
from hpctrain.registry.folder import Registry
from hpctrain.registry.policy import read_policy, require_group
from hpctrain.registry.version import Version, read_version
from hpctrain.rundir import RunDir
from hpctrain.trail.chain import record


def versions_of(run: RunDir, registry: Registry) -> list[Version]:
    """Return the registered versions that were made from a run.

    Raises
    ------
    CheckpointError
        A manifest is damaged, so it cannot be known.
    """
    models = map(registry.model, registry.names())
    versions = [read_version(model, number) for model in models for number in model.numbers()]
    wanted = os.path.realpath(run.path)
    return [version for version in versions if os.path.realpath(version.facts["run"]["path"]) == wanted]


def require_unused(run: RunDir, registry: Registry) -> None:
    """Refuse a run that a registered version was made from: its logs, checkpoints and records explain the version.

    Raises
    ------
    ProfileError
        The registry has versions of the run; the message names them.
    CheckpointError
        A manifest is damaged, so it cannot be known.
    """
    if versions := versions_of(run, registry):
        named = ", ".join(map(str, versions))
        message = f"{named} of {registry.path} {'was' if len(versions) == 1 else 'were'} made from it; it is kept"
        raise ProfileError("command line", [Problem(str(run.path), message)])


def delete_run(run: RunDir, registry: Registry) -> None:
    """Delete a run directory for ever. It first loses its name, so a half deleted one never counts as a run.

    Parameters
    ----------
    run : RunDir
    registry : Registry
        Where the deletion is recorded, if the registry exists.

    Raises
    ------
    ProfileError
        A registered version needs it.
    SiteError
        The policy of the registry does not allow it, or it cannot be deleted.
    """
    require_unused(run, registry)
    require_group(registry, read_policy(registry).delete, "delete runs")
    if registry.path.is_dir():
        record(registry.path, "delete", str(run.path))
    aside = run.path.with_name(f".deleted-{run.run_id}-{secrets.token_hex(4)}")
    try:
        os.rename(run.path, aside)
        fsync_directory(aside.parent)
        shutil.rmtree(aside)
    except OSError as error:
        left = f"; the rest of it is {aside}" if aside.exists() else ""
        raise SiteError(f"{run.path}: cannot be deleted: {error.strerror}{left}") from error
    _remove_dangling(run.path.parent / "latest")


def _remove_dangling(link: Path) -> None:
    if link.is_symlink() and not link.exists():
        link.unlink()
