"""What users do with versions: find, promote, roll back, verify, export. Each of them follows the policy."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctrain.credentials.hide import hide_secrets
from hpctrain.errors import CheckpointError, DataError, GateError, HpctrainError, Problem, ProfileError
from hpctrain.files import fsync_directory
from hpctrain.registry.aliases import ANY, Move, aliases_of, current, history_of, move_to, roll_back
from hpctrain.registry.contents import copy_file
from hpctrain.registry.folder import ModelFolder, Registry
from hpctrain.registry.gates import gates_of
from hpctrain.registry.names import CHAMPION, Reference, check_alias, read_reference
from hpctrain.registry.policy import read_policy, require_group
from hpctrain.registry.signatures import (
    fault_of_signature,
    require_signed_for_alias,
    require_signed_for_use,
    signatures_of,
)
from hpctrain.registry.version import MANIFEST, Version, read_version, require_whole, verify_version
from hpctrain.signing.sign import SIGNATURES, SUFFIX
from hpctrain.trail.chain import record

if TYPE_CHECKING:
    from hpctrain.signing.keys import Anchor


@dataclass(frozen=True)
class Promoted:
    """What :func:`promote` returns.

    Parameters
    ----------
    version : Version
    move : Move or None
        None if the alias meant the version already.
    """

    version: Version
    move: Move | None


def find_version(text: str, registry: Registry) -> Version:
    """Return the version that ``NAME``, ``NAME:3`` or ``NAME@champion`` means; a name alone means its champion.

    Raises
    ------
    ProfileError
        There is no such model, version or alias.
    CheckpointError
        Its manifest, or the history of the alias, is damaged.
    """
    reference = read_reference(text)
    model = registry.existing(reference.name)
    if reference.number is not None:
        return read_version(model, reference.number)
    alias = reference.alias or CHAMPION
    number = current(model, alias)
    if number is None:
        raise ProfileError("command line", [Problem(str(reference), _no_alias(model, reference, alias))])
    return read_version(model, number)


def _no_alias(model: ModelFolder, reference: Reference, alias: str) -> str:
    aliases = aliases_of(model)
    there = f"there is {', '.join(aliases)}" if aliases else "it has no alias yet"
    numbers = model.numbers()
    either = f", or name a version, such as {model.name}:{numbers[-1]}"
    return f"{reference.name} has no alias {alias}; {there}{either}"


def resolve(text: str, registry: Registry, anchors: Sequence[Anchor] = ()) -> Version:
    """Return the version that a text means, as of :func:`find_version`, if it may be used.

    Every byte of it is as it was added, and it has the signature that the user or the rules of the registry ask for.

    Parameters
    ----------
    text : str
    registry : Registry
    anchors : sequence of Anchor
        Keys that the user trusts, as of :func:`~hpctrain.registry.signatures.require_signed_for_use`.

    Raises
    ------
    ProfileError
        There is no such version.
    CheckpointError
        It is damaged, or is not signed by a trusted key.
    SiteError
        The rules are wrong, or the library that verifies is not installed.
    """
    reference = read_reference(text)
    version = require_whole(find_version(text, registry))
    alias = None if reference.number is not None else reference.alias or CHAMPION
    require_signed_for_use(version, alias, anchors)
    return version


def promote(
    text: str, alias: str, why: str, registry: Registry, force: bool = False, instead_of: int | None = ANY
) -> Promoted:
    """Let an alias mean a version.

    Parameters
    ----------
    text : str
        The version, as of :func:`find_version`.
    alias : str
    why : str
        The reason, which is kept for ever.
    registry : Registry
    force : bool
        Also if gates have not passed; this is kept, too.
    instead_of : int or None
        The version that the alias must mean until then, as of :func:`~hpctrain.registry.aliases.move_to`.

    Raises
    ------
    GateError
        The alias needs gates, and those of the version have not passed.
    SiteError
        The policy does not allow this user to move the alias, or somebody has moved it meanwhile.
    ProfileError
        There is no such version, or no reason was given.
    CheckpointError
        The version is damaged, or lacks the signature that the alias needs.
    """
    check_alias(alias)
    _require_reason(why)
    version = find_version(text, registry)
    rules = read_policy(registry).of(alias)
    require_group(registry, rules.move, f"move the alias {alias}")
    if current(version.model, alias) == version.number:
        return Promoted(version, None)
    require_whole(version)
    require_signed_for_alias(version, alias)
    report = gates_of(version)
    said = f"{'passed' if report.passed else 'not passed'}: {report}"
    if rules.gates and not report.passed:
        if not force:
            raise GateError(_refusal(version, alias, report.reasons))
        require_group(registry, rules.force, f"move the alias {alias} with --force")
        said = f"forced although {report}"
    audit = partial(_record, version.model)
    return Promoted(version, move_to(version.model, alias, version.number, why, said, audit, instead_of))


def _refusal(version: Version, alias: str, reasons: tuple[str, ...]) -> str:
    lines = "\n".join(f"  {reason}" for reason in reasons)
    return (
        f"{version} may not become {alias}: its gates have not passed\n{lines}\n"
        "  to do it nevertheless: --force --why REASON, which stays in the history"
    )


def rollback(name: str, alias: str, why: str, registry: Registry) -> Move:
    """Let an alias mean the version that it meant before its last promotion, and return the move.

    Raises
    ------
    ProfileError
        There is no such model, no version before, or no reason was given.
    SiteError
        The policy does not allow it, or somebody has moved the alias meanwhile.
    CheckpointError
        The version before is damaged, or lacks the signature that the alias needs.
    """
    check_alias(alias)
    _require_reason(why)
    model = registry.existing(name)
    require_group(registry, read_policy(registry).of(alias).move, f"move the alias {alias}")

    def audit(facts: Mapping[str, Any]) -> None:
        require_signed_for_alias(require_whole(read_version(model, facts["to"])), alias)
        _record(model, facts)

    return roll_back(model, alias, why, audit)


def _require_reason(why: str) -> None:
    if not why.strip():
        raise ProfileError("command line", [Problem("--why", "give the reason; it stays in the history of the alias")])
    if hide_secrets(why) != why:
        message = "holds what looks like a password or token; leave it out: the reason stays in the history for ever"
        raise ProfileError("command line", [Problem("--why", message)])


def _record(model: ModelFolder, facts: Mapping[str, Any]) -> None:
    details = {name: facts[name] for name in ("alias", "from", "why", "gates", "token")}
    record(model.registry.path, facts["action"], f"{model.name}:{facts['to']}", **details)


def faults_of(
    registry: Registry, names: list[str], anchors: Sequence[Anchor] = ()
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Verify every version and every alias of some models.

    Parameters
    ----------
    registry : Registry
    names : list of str
    anchors : sequence of Anchor
        Keys one of which must have signed every version; without them the rules of the registry say which must be
        signed.

    Yields
    ------
    what : str
        ``NAME:3`` or ``NAME@champion``.
    faults, unread : list of str
        As of :class:`~hpctrain.registry.version.Verified`.
    """
    for name in names:
        model = registry.existing(name)
        for number in model.numbers():
            try:
                version = read_version(model, number)
            except HpctrainError as error:
                yield f"{name}:{number}", [str(error)], []
                continue
            found = verify_version(version)
            unsigned = fault_of_signature(version, anchors)
            yield f"{name}:{number}", found.faults + ([unsigned] if unsigned else []), found.unread
        for alias in model.alias_names():
            yield f"{name}@{alias}", _faults_of_alias(model, alias), []


def _faults_of_alias(model: ModelFolder, alias: str) -> list[str]:
    try:
        moves = history_of(model, alias)
    except CheckpointError as error:
        return [str(error)]
    numbers = set(model.numbers())
    lost = sorted({move.to for move in moves} - numbers)
    return [f"{model.name}:{number}, which it has meant, is missing" for number in lost]


def export_version(text: str, out: Path, registry: Registry) -> tuple[Version, list[str]]:
    """Copy a verified version to a new folder, whole or not at all, with its signatures.

    Those of the version are in ``signatures/``, and those of each bundle in ``signatures/`` of the bundle.

    Parameters
    ----------
    text : str
        The version, as of :func:`find_version`.
    out : Path
        The folder to make.
    registry : Registry

    Returns
    -------
    version : Version
    left_out : list of str
        Files that only the one who added the version may read.

    Raises
    ------
    ProfileError
        There is no such version.
    CheckpointError
        It is damaged, or lacks the signature that the rules of the registry ask for.
    DataError
        There is something with the name of the folder, or it cannot be written.
    """
    version = resolve(text, registry)
    out = out.absolute()
    if os.path.lexists(out):
        raise DataError(f"{out}: exists; choose another folder for --out")
    record(registry.path, "export", str(version), out=str(out), content=version.facts["content"])
    stage = out.with_name(f".{out.name}.{secrets.token_hex(8)}.tmp")
    try:
        left_out = _copy(version, stage)
        stage.rename(out)
        fsync_directory(out.parent)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror or error}; nothing was left there") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return version, left_out


def _copy(version: Version, stage: Path) -> list[str]:
    left_out = []
    for name in [*version.files, MANIFEST]:
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        if version.files.get(name, {}).get("private") and not os.access(version.path / name, os.R_OK):
            left_out.append(name)
            continue
        copy_file(version.path / name, stage / name, 0o644)
    _copy_signatures(version, stage)
    return left_out


def _copy_signatures(version: Version, stage: Path) -> None:
    folder = signatures_of(version)
    for path in folder.rglob(f"*{SUFFIX}"):
        target = stage / path.parent.relative_to(folder) / SIGNATURES / path.name
        if not target.exists():  # a bundle may have been signed with the same key before it was added
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(path, target, 0o644)
