"""``registry.yaml`` of a registry: who may do what, and which aliases need gates."""

# ruff: noqa: RUF012  (pydantic copies the defaults of its fields)

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpctrain.errors import ProfileError, SiteError
from hpctrain.profile.document import sort_problems
from hpctrain.profile.explain import typed
from hpctrain.profile.reading import read_plain
from hpctrain.profile.sections.base import AccessName, GroupName, Line, Section, Switch
from hpctrain.registry.folder import Registry
from hpctrain.registry.names import CHAMPION
from hpctrain.trail.who import groups, who

AliasName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]


class AliasPolicy(Section):
    """The rules of one alias."""

    gates: Switch = False
    """Only a version whose gates have passed may get the alias."""
    move: list[GroupName] = []
    """POSIX groups whose members may move the alias; if empty, everybody who can write to the registry."""
    force: list[GroupName] = []
    """POSIX groups whose members may move it with --force although gates have not passed; if empty, everybody who may
    move it."""


class RegistryMlflow(Section):
    """An MLflow server whose registry of models is kept in step."""

    tracking_uri: Line | None = None
    """Address of the server; if unset, MLFLOW_TRACKING_URI of the environment."""
    prefix: Line = ""
    """Text in front of each name of a model there."""


class SigningPolicy(Section):
    """Which versions must be signed, and by whom."""

    required_for: list[AliasName] = []
    """Aliases that only a signed version may get and be used by; ``all`` means every version."""
    public_keys: list[Line] = []
    """Files of public keys, or of certificates of an authority (PEM), relative to the registry; one signature is
    enough."""
    sign: list[GroupName] = []
    """POSIX groups whose members may add signatures; if empty, everybody who can write to the registry."""


class RegistryPolicy(Section):
    """The rules of a registry. Whoever can write to the folder could go round them, so give it to a group."""

    description: Line = ""
    """What the registry is for."""
    access: AccessName | None = None
    """Who may read and write the registry: ``private``, ``group`` or ``public``; if unset, what the permissions of its
    folder say. The owner of the folder applies it: with ``hpctrain access``, or when adding a version."""
    group: GroupName | None = None
    """With ``access: group``: the POSIX group; if unset, that of the folder."""
    add: list[GroupName] = []
    """POSIX groups whose members may add versions; if empty, everybody who can write to the registry."""
    aliases: dict[AliasName, AliasPolicy] = {}
    """Rules by alias. Without an entry, ``champion`` needs gates, and no other alias does."""
    delete: list[GroupName] = []
    """POSIX groups whose members may delete runs whose registry this is; if empty, everybody who can write to them."""
    signing: SigningPolicy = SigningPolicy()
    """Signatures of versions."""
    share_provenance: Switch = False
    """Let everybody who may read the registry read the ``provenance.json`` of versions, which holds uncommitted changes
    of users' code. By default only the one who added the version may."""
    mlflow: RegistryMlflow | None = None

    def of(self, alias: str) -> AliasPolicy:
        """Return the rules of an alias."""
        return self.aliases.get(alias, AliasPolicy(gates=alias == CHAMPION))


def read_policy(registry: Registry) -> RegistryPolicy:
    """Return the rules of a registry; the defaults if it has no ``registry.yaml``.

    Raises
    ------
    SiteError
        The file is wrong; the message lists all problems with their lines.
    """
    if not registry.policy.exists():
        return RegistryPolicy()
    try:
        document = read_plain(registry.policy)
        policy = typed(document, RegistryPolicy)
    except ProfileError as error:
        raise SiteError(str(error)) from None
    if document.problems:
        raise SiteError(str(ProfileError(document.source, sort_problems(document.problems))))
    return policy


def require_group(registry: Registry, allowed: list[str], action: str) -> None:
    """Refuse a user who is in none of these POSIX groups; an empty list allows everybody.

    Raises
    ------
    SiteError
        The policy does not allow it.
    """
    mine = groups()
    if allowed and not mine & set(allowed):
        rule = f"only members of {', '.join(allowed)} may, and you are in {', '.join(sorted(mine))}"
        raise SiteError(f"{registry.policy}: {who()['user']} may not {action}: {rule}")
