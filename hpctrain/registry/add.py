"""Add a finished run to the registry, as a version: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain import __version__
from hpctrain.errors import CheckpointError, SiteError
from hpctrain.files import fsync_directory, publish_once
from hpctrain.registry.contents import contents_of, copy_file
from hpctrain.registry.folder import ModelFolder, Registry
from hpctrain.registry.lineage import lineage_of, write_lineage
from hpctrain.registry.names import check_name
from hpctrain.registry.policy import read_policy, require_group
from hpctrain.registry.sealed import digest_of, sealed_text
from hpctrain.registry.sharing import settle
from hpctrain.registry.version import CARD, FORMAT, FORMAT_VERSION, LINEAGE, MANIFEST, PROVENANCE, Version, read_version
from hpctrain.rundir import RunDir, read_json
from hpctrain.trail.chain import record
from hpctrain.trail.who import who

_STAGE = ".new-"
_ABANDONED_S = 86_400.0
"""Age of an unfinished folder from which its writer counts as dead [s]; it may have run on another host."""
_IS_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)


@dataclass(frozen=True)
class Added:
    """What :func:`add_run` returns.

    Parameters
    ----------
    version : Version
    is_new : bool
        False if the registry had a version with the same files already.
    """

    version: Version
    is_new: bool


def add_run(run: RunDir, name: str, registry: Registry, note: str = "") -> Added:
    """Add a finished run as the next version of a model.

    The files are copied into a hidden folder beside the versions, which is on the disk before one rename gives it its
    number. A rename to a number that is taken fails, so of two adders at once one takes the next number. The same files
    are never added twice: the call can be repeated after a kill.

    Parameters
    ----------
    run : RunDir
    name : str
        Name of the model.
    registry : Registry
    note : str
        What the user says about the version.

    Raises
    ------
    CheckpointError
        The run has no finished model.
    ProfileError
        `name` is no name.
    SiteError
        The policy or the permissions of the registry do not allow it, or the disk is full.
    """
    model = registry.model(check_name(name))
    policy = read_policy(registry)
    require_group(registry, policy.add, "add versions")
    settle(registry, policy)
    contents = contents_of(run)
    registry.make(model.versions)
    _clear_abandoned(model.versions)
    stage = model.versions / f"{_STAGE}{secrets.token_hex(8)}"
    try:
        stage.mkdir(mode=0o700)
        shared = {PROVENANCE} if policy.share_provenance else set()
        files = _fill(stage, contents, registry, shared)
        files |= _add_lineage(stage, run, registry)
        _settle(stage, registry)
        return _publish(stage, model, _facts(model, run, files, note))
    except OSError as error:
        raise SiteError(f"{model.path}: the version cannot be written: {error.strerror}; nothing was added") from error
    finally:
        _remove(stage)


def _fill(stage: Path, contents: Mapping[str, Path], registry: Registry, shared: set[str]) -> dict[str, Any]:
    files = {}
    for name, source in contents.items():
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        files[name] = copy_file(source, stage / name, registry.file_mode)
        if name in shared and files[name].pop("private", False):
            (stage / name).chmod(registry.file_mode)
    return files


def _add_lineage(stage: Path, run: RunDir, registry: Registry) -> dict[str, Any]:
    """Write the lineage into the folder as files like those of the run, and return their entries of the manifest."""
    with tempfile.TemporaryDirectory(dir=stage) as folder:
        write_lineage(Path(folder), *lineage_of(run))
        found = [name for name in LINEAGE if (Path(folder) / name).exists()]
        for name in found:
            (Path(folder) / name).chmod(0o644)
        return {name: copy_file(Path(folder) / name, stage / name, registry.file_mode) for name in found}


def _settle(stage: Path, registry: Registry) -> None:
    for folder, _, _ in os.walk(stage, topdown=False):
        if Path(folder) != stage:
            os.chmod(folder, registry.version_mode)
        fsync_directory(Path(folder))


def _facts(model: ModelFolder, run: RunDir, files: Mapping[str, Any], note: str) -> dict[str, Any]:
    card = read_json(run.path / CARD)
    if not isinstance(card, dict):
        raise CheckpointError(f"{run.path / CARD}: is damaged")
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "name": model.name,
        "token": secrets.token_hex(16),
        "added": {**who(), "when": time.time(), "hpctrain": __version__},
        "run": {"name": run.name, "run_id": run.run_id, "path": str(run.path)},
        "family": card.get("family"),
        "kind": card.get("kind"),
        "note": note,
        "content": digest_of({name: facts["sha256"] for name, facts in files.items() if name not in LINEAGE}),
        "files": files,
    }


def _publish(stage: Path, model: ModelFolder, facts: Mapping[str, Any]) -> Added:
    """Give the folder the next free number, unless an older version has the same files."""
    mode = model.registry.version_mode
    while True:
        numbers = model.numbers()
        if (same := _same_content(model, numbers, facts["content"])) is not None:
            return Added(same, is_new=False)
        number = max(numbers, default=0) + 1
        stage.chmod(0o700 | mode & stat.S_ISGID)  # without the bit the manifest would not get the group
        (stage / MANIFEST).unlink(missing_ok=True)
        text = sealed_text({**facts, "number": number})
        publish_once(stage / MANIFEST, text.encode(), model.registry.file_mode)
        stage.chmod(mode)
        record(
            model.registry.path, "add", f"{model.name}:{number}", run=facts["run"]["path"], content=facts["content"],
            token=facts["token"],
        )  # fmt: skip
        if _rename(stage, model.version(number), facts["token"], model, number):
            fsync_directory(model.versions)
            return Added(read_version(model, number), is_new=True)


def _rename(stage: Path, final: Path, token: str, model: ModelFolder, number: int) -> bool:
    """Return whether the folder has the number; False if another one has taken it."""
    try:
        os.rename(stage, final)
    except FileNotFoundError:
        # A server of NFS may have renamed it and lost its answer; the client then asks once more.
        with contextlib.suppress(CheckpointError):
            if read_version(model, number).facts["token"] == token:
                return True
        raise
    except OSError as error:
        if error.errno in _IS_TAKEN:
            return False
        raise
    return True


def _same_content(model: ModelFolder, numbers: list[int], content: str) -> Version | None:
    for number in reversed(numbers):
        with contextlib.suppress(CheckpointError):  # a damaged version is not the same
            found = read_version(model, number)
            if found.facts["content"] == content:
                return found
    return None


def _clear_abandoned(versions: Path) -> None:
    """Remove unfinished folders of writers that were killed at least a day ago."""
    for entry in os.scandir(versions):
        with contextlib.suppress(OSError):
            if entry.name.startswith(_STAGE) and time.time() - entry.stat().st_mtime > _ABANDONED_S:
                _remove(Path(entry.path))


def _remove(stage: Path) -> None:
    for folder, _, _ in os.walk(stage):
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)  # nobody but root can empty a folder without this
    shutil.rmtree(stage, ignore_errors=True)
