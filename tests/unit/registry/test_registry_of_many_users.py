"""A registry that belongs to a group: other members add, promote and roll back; strangers see nothing."""

from __future__ import annotations

import os
import stat

import pytest
from permissions import FOLDERS, MEMBER, OWNER, STRANGER, as_user, may, open_to_users, shared_group
from registered_runs import GATE, added, finished_run

from hpctrain.access import GROUP, PRIVATE, PUBLIC
from hpctrain.cli import main
from hpctrain.errors import SiteError
from hpctrain.registry.actions import faults_of, promote, rollback
from hpctrain.registry.add import add_run
from hpctrain.registry.aliases import current
from hpctrain.registry.contents import contents_of
from hpctrain.registry.folder import Registry
from hpctrain.registry.sharing import share
from hpctrain.registry.trail_verify import verify_trail
from hpctrain.rundir import RunDir
from hpctrain.trail.chain import Entry, read_trail


@pytest.fixture
def users(tmp_path):
    """A folder for several users; all modules that the actions need are loaded, which others cannot do from root's."""
    registry = Registry(tmp_path / "registry")
    registry.path.mkdir()
    registry.policy.write_text("access: private\n")
    added(registry, tmp_path / "runs", 1.0, [GATE])
    promote("photoz:1", "champion", "first", registry)
    yield from open_to_users()


@pytest.fixture
def registry(users):
    """A registry of the owner that its rules give to the group, with one version."""
    registry = Registry(users / "registry")

    def make():
        registry.path.mkdir()
        registry.policy.write_text(f"access: group\ngroup: {shared_group().gr_name}\n")
        added(registry, users / "runs", 1.0, [GATE])

    as_user(OWNER, make)
    (users / "member").mkdir()
    os.chown(users / "member", MEMBER, MEMBER)
    as_user(MEMBER, lambda: added(registry, users / "member", 2.0, [GATE]).number)
    return registry


def is_sealed(name):
    """Return whether nobody may write what has this name: a version, or a move of an alias."""
    return name.startswith("models/photoz/versions/") or (name.startswith("models/") and name.endswith(".json"))


def permissions_of(registry):
    entries = [registry.path, *registry.path.rglob("*")]
    return {str(path.relative_to(registry.path)): path.stat() for path in entries}


def test_members_add_promote_and_roll_back_and_leave_a_whole_trail(registry):
    as_user(OWNER, lambda: promote("photoz:1", "champion", "first", registry).move.to)
    as_user(MEMBER, lambda: promote("photoz:2", "champion", "better", registry).move.to)
    as_user(OWNER, lambda: rollback("photoz", "champion", "worse", registry).to)
    as_user(MEMBER, lambda: promote("photoz:2", "champion", "better after all", registry).move.to)
    assert current(registry.model("photoz"), "champion") == 2
    entries = [entry for entry in read_trail(registry.path / "audit.jsonl") if isinstance(entry, Entry)]
    assert [(entry.facts["uid"], entry.facts["action"]) for entry in entries] == [
        (OWNER, "add"),
        (MEMBER, "add"),
        (OWNER, "promote"),
        (MEMBER, "promote"),
        (OWNER, "rollback"),
        (MEMBER, "promote"),
    ]
    for user in (OWNER, MEMBER):
        assert as_user(user, lambda: verify_trail(registry).faults) == []
        assert as_user(user, lambda: [faults for _, faults, _ in faults_of(registry, ["photoz"]) if faults]) == []
    for name, facts in permissions_of(registry).items():
        mode = stat.S_IMODE(facts.st_mode)
        assert facts.st_gid == shared_group().gr_gid, name
        assert mode & 0o007 == 0, name
        assert bool(mode & 0o020) != is_sealed(name), name
        assert bool(mode & 0o040) != name.endswith("provenance.json"), name


def test_strangers_see_nothing_of_a_registry_of_a_group(registry):
    assert not as_user(STRANGER, lambda: may(lambda: os.listdir(registry.path)), in_group=False)
    assert not as_user(STRANGER, lambda: may((registry.path / "audit.jsonl").read_bytes), in_group=False)


def test_nobody_changes_a_version_not_even_its_owner_without_chmod(registry):
    weights = registry.model("photoz").version(1) / "model" / "model.safetensors"
    for user in (OWNER, MEMBER):
        assert not as_user(user, lambda: may(lambda: weights.write_bytes(b"")))
        assert not as_user(user, lambda: may(weights.unlink))


def test_a_registry_that_becomes_public_can_be_read_by_all_and_its_versions_stay_sealed(registry):
    for path in registry.path.rglob("*"):
        os.chown(path, OWNER, -1)  # as an administrator does: only owners can change permissions
    assert as_user(OWNER, lambda: share(registry, PUBLIC).left) == []
    assert as_user(STRANGER, lambda: [faults for _, faults, _ in faults_of(registry, ["photoz"]) if faults]) == []
    for name, facts in permissions_of(registry).items():
        mode = stat.S_IMODE(facts.st_mode)
        assert mode & 0o022 == 0, name
        assert bool(mode & 0o004) != name.endswith("provenance.json"), name
        assert bool(mode & 0o200) != is_sealed(name), name


def test_the_owner_applies_the_rules_when_adding_and_a_member_leaves_them(users):
    registry = Registry(users / "registry")
    as_user(OWNER, lambda: (registry.path.mkdir(), added(registry, users / "runs", 1.0).number))
    registry.policy.write_text("access: private\n")
    (users / "member").mkdir()
    os.chown(users / "member", MEMBER, MEMBER)
    run = as_user(MEMBER, lambda: str(finished_run(users / "member", 2.0).path))

    def refused():
        with pytest.raises(SiteError, match=r"cannot be made|cannot be written"):
            add_run(RunDir(run), "photoz", registry)

    as_user(MEMBER, refused)
    as_user(OWNER, lambda: added(registry, users / "runs", 3.0).number)
    assert stat.S_IMODE(registry.path.stat().st_mode) == FOLDERS[PRIVATE]


def test_uncommitted_changes_that_a_group_shares_stay_closed_in_a_registry_for_all(tmp_path):
    run = finished_run(tmp_path / "runs", 1.0)
    for path in run.path.rglob("*"):
        path.chmod(0o2770 if path.is_dir() else 0o660)
    registry = Registry(tmp_path / "registry")
    registry.path.mkdir()
    registry.path.chmod(0o755)
    version = add_run(run, "photoz", registry).version
    modes = {name: stat.S_IMODE((version.path / name).stat().st_mode) for name in contents_of(run)}
    assert modes.pop("provenance.json") == 0o400
    assert set(modes.values()) == {0o444}
    registry.path.chmod(0o2770)
    second = finished_run(tmp_path / "runs", 2.0)
    second.provenance.chmod(0o660)
    version = add_run(second, "photoz", registry).version
    assert stat.S_IMODE((version.path / "provenance.json").stat().st_mode) == 0o440


def test_rules_that_the_command_line_contradicts_are_named(tmp_path, capsys):
    registry = Registry(tmp_path / "registry")
    registry.path.mkdir()
    added(registry, tmp_path / "runs", 1.0)
    registry.policy.write_text("access: private\n")
    assert main(["access", str(registry.path), GROUP]) == 3
    assert "says access: private; change it there first" in capsys.readouterr().err
    assert main(["access", str(registry.path), PRIVATE]) == 0
    assert stat.S_IMODE(registry.path.stat().st_mode) == FOLDERS[PRIVATE]
    assert main(["access", str(registry.path)]) == 0
    assert "mode 700" in capsys.readouterr().out
