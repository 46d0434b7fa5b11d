"""Who may read and write what hpctrain writes, tried by real users where the tests are root's."""

from __future__ import annotations

import os
import stat

import pytest
from permissions import FILES, FOLDERS, MEMBER, OWNER, STRANGER, abilities, as_user, open_to_users, shared_group
from permissions import wrong_permissions as wrong

from hpctrain.access import GROUP, MARK, PRIVATE, PUBLIC, access_of, enter, following, write_mark
from hpctrain.access_tree import change_tree, permissions
from hpctrain.errors import SiteError
from hpctrain.rundir import RunDir, write_json
from hpctrain.search.folder import write_once

NONE = {"read": False, "change": False, "add": False}
LOOK = {"read": True, "change": False, "add": False}
ALL = {"read": True, "change": True, "add": True}
users = pytest.fixture(open_to_users)


@pytest.fixture(autouse=True)
def _usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def filled_run(folder, access, group=None):
    """Make a run with files from each of the ways in which they are written, as a process that works in it does."""
    run = RunDir.create(folder / "runs", "photoz", "20261126-120000-0001", access, group)
    enter(run.path)
    write_json(run.job, {})
    write_once(run.path / "outcome.json", {})
    (run.results / "deep").mkdir(parents=True)
    (run.results / "deep" / "plain.txt").write_text("by a library")
    return run


@pytest.mark.parametrize(
    ("access", "member", "stranger"), [(PRIVATE, NONE, NONE), (GROUP, ALL, NONE), (PUBLIC, LOOK, LOOK)]
)
def test_members_of_the_group_and_strangers_can_do_what_the_access_says(users, access, member, stranger):
    group = shared_group().gr_name if access == GROUP else None
    run = RunDir(as_user(OWNER, lambda: str(filled_run(users, access, group).path)))
    assert wrong(run.path, access) == []
    for folder in (run.path, run.logs):
        if folder == run.logs:
            as_user(OWNER, lambda: write_mark(run.logs, access))
        assert as_user(MEMBER, lambda folder=folder: abilities(folder)) == member
        assert as_user(STRANGER, lambda folder=folder: abilities(folder), in_group=False) == stranger


def test_what_a_member_adds_belongs_to_the_group_again(users):
    run = RunDir(as_user(OWNER, lambda: str(filled_run(users, GROUP, shared_group().gr_name).path)))

    def resume():
        enter(run.path)
        run.make_folders()
        write_json(run.job, {"by": "a member"})
        (run.path / "export" / "jetson").mkdir(parents=True)

    as_user(MEMBER, resume)
    assert run.job.stat().st_uid == MEMBER
    assert wrong(run.path, GROUP) == []
    as_user(OWNER, lambda: write_json(run.job, {"by": "its owner"}))


def test_without_access_the_umask_decides(tmp_path):
    os.umask(0o027)
    run = filled_run(tmp_path, None)
    assert access_of(run.path) is None
    assert (mode(run.path) & 0o777, mode(run.logs) & 0o777, mode(run.job)) == (0o750, 0o750, 0o640)
    assert not (run.path / MARK).exists()


@pytest.mark.parametrize("access", [PRIVATE, GROUP, PUBLIC])
def test_what_is_made_deep_in_a_run_follows_the_run(tmp_path, access):
    run = filled_run(tmp_path, access)
    assert wrong(run.path, access) == []
    with following(run.path / "folds" / "3"):
        (run.path / "later").write_text("")
    assert mode(run.path / "later") == FILES[access]
    before = os.umask(0o022)
    with following(tmp_path), following(run.path):
        pass
    assert os.umask(before) == 0o022


@pytest.mark.parametrize("access", [PRIVATE, GROUP, PUBLIC])
def test_new_folders_above_a_run_let_those_pass_who_may_read_it(tmp_path, access):
    filled_run(tmp_path, access)
    assert mode(tmp_path / "runs") == (0o755 if access == PRIVATE else FOLDERS[access])


def test_the_mark_of_a_stranger_in_a_folder_for_everybody_does_not_count(users):
    users.chmod(0o1777)
    as_user(STRANGER, lambda: write_mark(users, PUBLIC), in_group=False)
    assert as_user(MEMBER, lambda: access_of(users / "runs" / "mine")) is None
    as_user(STRANGER, lambda: os.unlink(users / MARK), in_group=False)
    as_user(OWNER, lambda: write_mark(users, PRIVATE))
    assert as_user(OWNER, lambda: access_of(users / "runs" / "mine")) == PRIVATE


@pytest.mark.parametrize("content", [b"", b"everybody\n", b"public" * 100, b"\xff\xfe"])
def test_a_damaged_mark_is_none(tmp_path, content):
    (tmp_path / MARK).write_bytes(content)
    assert access_of(tmp_path) is None


def test_a_mark_that_is_a_link_is_none(tmp_path):
    (tmp_path / "word").write_text("public\n")
    (tmp_path / MARK).symlink_to("word")
    assert access_of(tmp_path) is None


def test_a_group_that_is_not_there_or_not_ours_is_an_error_with_its_name(users):
    with pytest.raises(SiteError, match=r"no group 'no-such-group'.*yours are"):
        RunDir.create(users, "run", "1", GROUP, "no-such-group")

    def as_stranger():
        with pytest.raises(SiteError, match=f"not in the group '{shared_group().gr_name}'"):
            RunDir.create(users / "open", "run", "1", GROUP, shared_group().gr_name)

    (users / "open").mkdir()
    (users / "open").chmod(0o777)
    as_user(STRANGER, as_stranger, in_group=False)


@pytest.mark.parametrize("access", [PRIVATE, GROUP, PUBLIC])
def test_a_whole_tree_changes_and_links_out_of_it_do_not(tmp_path, access):
    run = filled_run(tmp_path, None)
    run.provenance.write_text("{}")
    run.provenance.chmod(0o600)
    outside, other = tmp_path / "outside", tmp_path / "outside-too"
    outside.write_text("")
    outside.chmod(0o640)
    (run.path / "link").symlink_to(outside)
    (run.path / "folder").symlink_to(tmp_path)
    other.write_text("")
    os.link(other, run.path / "second-name")
    changed = change_tree(run.path, access)
    assert changed.left == [str(run.path / "second-name")]
    assert (mode(outside), mode(other), mode(tmp_path) & 0o777) == (0o640, 0o644, 0o700)
    os.unlink(run.path / "second-name")
    assert wrong(run.path, access) == []


def test_files_of_others_are_named_and_then_nothing_changes(users):
    run = RunDir(as_user(OWNER, lambda: str(filled_run(users, GROUP, shared_group().gr_name).path)))
    as_user(MEMBER, lambda: (run.results / "foreign.txt").write_text(""))

    def refused():
        with pytest.raises(SiteError, match=r"1 files? or folders? belong.*results/foreign\.txt"):
            change_tree(run.path, PUBLIC)

    as_user(OWNER, refused)
    assert mode(run.path) == FOLDERS[GROUP]
    assert mode(run.job) == FILES[GROUP]


def test_a_folder_for_everybody_is_not_changed(tmp_path):
    tmp_path.chmod(0o1777)
    with pytest.raises(SiteError, match="sticky"):
        change_tree(tmp_path, PRIVATE)
    assert mode(tmp_path) == 0o1777


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").symlink_to("/")
    with pytest.raises(SiteError, match="is a symbolic link"):
        change_tree(tmp_path / "run", PRIVATE)


@pytest.mark.parametrize(
    ("before", "access", "after"),
    [
        (0o100444, GROUP, 0o440),
        (0o100444, PRIVATE, 0o400),
        (0o100400, PUBLIC, 0o444),
        (0o100755, GROUP, 0o770),
        (0o106755, PUBLIC, 0o755),
        (0o040555, GROUP, 0o2550),
        (0o042770, PUBLIC, 0o2755),
        (0o042770, PRIVATE, 0o700),
    ],
)
def test_permissions_follow_those_of_the_owner(before, access, after):
    assert permissions(before, access) == after
