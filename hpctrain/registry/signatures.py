"""Signatures of versions: beside a version, which never changes, and which of them the rules ask for.

::

    models/<name>/signatures/<number>/<key>.sig                    of the whole version
    models/<name>/signatures/<number>/export/<bundle>/<key>.sig    of each bundle, which a device gets without the rest

A version is signed with its manifest, so a signature means this number of this model. Files that only the one who added
it may read are left out, if nothing loads them: the signed manifest holds their SHA-256.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from hpctrain.errors import CheckpointError, ProfileError, SiteError
from hpctrain.files import publish_once
from hpctrain.registry.aliases import aliases_of
from hpctrain.registry.folder import ModelFolder, Registry
from hpctrain.registry.policy import RegistryPolicy, read_policy, require_group
from hpctrain.registry.version import PROVENANCE, Version, require_whole
from hpctrain.signing.keys import Anchor, Signer, anchors_of, anchors_of_environment
from hpctrain.signing.sign import SIGNATURES, SUFFIX, signature_name, signature_of
from hpctrain.signing.verify import require_signature
from hpctrain.trail.chain import record

ALL = "all"
"""Word of ``signing.required_for`` that means every version, whatever its aliases."""
_BUNDLE = "bundle.json"


def signatures_of(version: Version) -> Path:
    """Return the folder of the signatures of a version, whether it exists or not."""
    return version.model.path / SIGNATURES / str(version.number)


def signature_files(model: ModelFolder) -> Iterator[Path]:
    """Yield the files of all signatures of a model's versions."""
    yield from sorted((model.path / SIGNATURES).rglob(f"*{SUFFIX}"))


def keys_of(version: Version) -> list[str]:
    """Return the beginnings of the SHA-256 of the keys that have signed a version, without verifying anything."""
    return sorted(path.name.removesuffix(SUFFIX) for path in signatures_of(version).glob(f"*{SUFFIX}"))


def sign_version(version: Version, signer: Signer) -> bool:
    """Sign a version and each of its bundles; return False if this key has signed all of them before.

    The signature of the version itself is written last, so after a kill the same call goes on.

    Raises
    ------
    SiteError
        The policy does not allow it, the library is not installed, or the signature cannot be written.
    CheckpointError
        The version is not as it was added.
    DataError
        A file cannot be read.
    """
    registry = version.model.registry
    require_group(registry, read_policy(registry).signing.sign, "sign versions")
    require_whole(version)
    bundles = [str(PurePosixPath(name).parent) for name in _bundles(version)]
    own = [PROVENANCE] if version.files.get(PROVENANCE, {}).get("private") else []
    left_out = [SIGNATURES, *(f"{bundle}/{SIGNATURES}" for bundle in bundles), *own]
    is_new = False
    for inside, names in [*((bundle, [SIGNATURES]) for bundle in bundles), ("", left_out)]:
        is_new |= _sign(version, inside, signer, names)
    return is_new


def _bundles(version: Version) -> list[str]:
    return sorted(name for name in version.files if PurePosixPath(name).match(f"export/*/{_BUNDLE}"))


def _sign(version: Version, inside: str, signer: Signer, left_out: Sequence[str]) -> bool:
    """Sign a folder in a version, or the version; return False if this key has signed it before."""
    registry = version.model.registry
    target = signatures_of(version) / inside / signature_name(signer)
    if target.exists():
        _require_own(target, version, inside, signer)
        return False
    content = signature_of(version.path / inside, signer, left_out).encode()
    folder = registry.make(target.parent)
    digest = hashlib.sha256(content).hexdigest()
    record(registry.path, "sign", str(version), part=inside, key=signer.digest, sha256=digest)
    try:
        return publish_once(target, content, registry.file_mode)
    except OSError as error:
        raise SiteError(f"{folder}: cannot be written: {error.strerror}; {version} was not signed") from error


def _require_own(target: Path, version: Version, inside: str, signer: Signer) -> None:
    """Refuse a signature in the place of this key's own that is not by this key; one with a certificate is left."""
    if signer.certificate is not None:
        return
    with tempfile.NamedTemporaryFile(suffix=".pub") as public:
        public.write(signer.public)
        public.flush()
        anchor = Anchor(Path(public.name), signer.digest)
        try:
            require_signature(version.path / inside, [anchor], target.parent)
        except CheckpointError as error:
            raise CheckpointError(
                f"{target}: is no signature of {version} by this key; remove the file, and sign again"
            ) from error


def require_trusted(version: Version, anchors: Sequence[Anchor]) -> Anchor:
    """Refuse a version that none of these keys has signed as it is; return who has.

    Raises
    ------
    CheckpointError
        It is not signed by one of them, or has changed since.
    SiteError
        The library is not installed.
    """
    way_out = f"sign it: hpctrain registry sign {version} --key FILE"
    return require_signature(version.path, anchors, signatures_of(version), str(version), way_out)


def require_signed_for_use(version: Version, alias: str | None, anchors: Sequence[Anchor] = ()) -> None:
    """Refuse to load or copy a version that has not the signature that somebody asks for.

    That is the user, by `anchors` or the variable HPCTRAIN_PUBLIC_KEYS; else the rules of the registry.

    Parameters
    ----------
    version : Version
    alias : str or None
        The alias by which it is used; None if by its number, which the rules of all its aliases hold for.
    anchors : sequence of Anchor

    Raises
    ------
    CheckpointError
        It is not signed by a trusted key, or has changed since.
    SiteError
        The rules are wrong, or the library is not installed.
    """
    if trusted := list(anchors) or anchors_of_environment():
        require_trusted(version, trusted)
        return
    policy = read_policy(version.model.registry)
    if not policy.signing.required_for:
        return
    if alias is not None:
        names = [alias]
    else:
        names = [name for name, number in aliases_of(version.model).items() if number == version.number]
    if _is_required(policy, names):
        require_trusted(version, anchors_of_policy(version.model.registry, policy))


def require_signed_for_alias(version: Version, alias: str) -> None:
    """Refuse to let an alias mean a version that has not the signature that the rules ask for.

    Raises
    ------
    CheckpointError
        It is not signed by a key of the rules, or has changed since.
    SiteError
        The rules are wrong, or the library is not installed.
    """
    policy = read_policy(version.model.registry)
    if _is_required(policy, [alias]):
        require_trusted(version, anchors_of_policy(version.model.registry, policy))


def fault_of_signature(version: Version, anchors: Sequence[Anchor]) -> str | None:
    """Return why a version has not the signature that the user or the rules ask for; None if it has, or need not."""
    try:
        require_signed_for_use(version, None, anchors)
    except CheckpointError as error:
        return str(error).removeprefix(f"{version}: ")
    return None


def must_be_signed(version: Version) -> bool:
    """Return whether the rules ask for the signature of a version that no alias means yet."""
    return ALL in read_policy(version.model.registry).signing.required_for


def _is_required(policy: RegistryPolicy, aliases: Sequence[str]) -> bool:
    return bool({ALL, *aliases} & set(policy.signing.required_for))


def anchors_of_policy(registry: Registry, policy: RegistryPolicy) -> list[Anchor]:
    """Return the keys that the rules trust; their paths are relative to the folder of the registry.

    Raises
    ------
    SiteError
        There are none, or some cannot be used.
    """
    paths = [registry.path / name for name in policy.signing.public_keys]
    if not paths:
        raise SiteError(f"{registry.policy}: signing.required_for needs signing.public_keys, the keys that are trusted")
    try:
        return anchors_of(paths, str(registry.policy), "signing.public_keys")
    except ProfileError as error:
        raise SiteError(str(error)) from None
