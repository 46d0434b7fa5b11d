"""``hpctrain access``: what it changes, and what it refuses to change; what members of a group see of a run."""

from __future__ import annotations

import stat

import pytest
from permissions import FILES, MEMBER, OWNER, STRANGER, as_user, open_to_users, shared_group
from permissions import wrong_permissions as wrong

from hpctrain.access import GROUP, MARK, PRIVATE, PUBLIC, enter
from hpctrain.cli import main
from hpctrain.launch.status import describe_any
from hpctrain.rundir import RunDir, all_runs, write_json

users = pytest.fixture(open_to_users)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDir.create("runs", "photoz", "20261126-120000-0001")
    run.profile.write_text("name: photoz\n")
    write_json(run.job, {"name": "photoz"})
    return run


@pytest.mark.parametrize("access", [PRIVATE, GROUP, PUBLIC])
@pytest.mark.parametrize("what", ["photoz", "runs/photoz/20261126-120000-0001", "runs/photoz", "runs"])
def test_a_run_or_a_folder_of_runs_changes_with_all_its_files(run, access, what, capsys):
    assert main(["access", what, access]) == 0
    assert wrong(run.path, access) == []
    said = capsys.readouterr().out
    assert f": {access}, " in said
    assert main(["access", what]) == 0
    assert f": {access}, " in capsys.readouterr().out


def test_runs_that_start_later_in_a_folder_of_runs_follow_it(run):
    assert main(["access", "runs", GROUP]) == 0
    later = RunDir.create("runs", "other", "20261126-130000-0002")
    assert wrong(later.path, GROUP) == []


@pytest.mark.parametrize("extra", ["thesis.tex", "runs/photoz/notes.txt", "runs/readme", "runs/.ssh/key"])
def test_a_folder_with_anything_else_in_it_is_refused_and_nothing_changes(run, tmp_path, extra, capsys):
    (tmp_path / extra).parent.mkdir(exist_ok=True)
    (tmp_path / extra).write_text("")
    folder = tmp_path if extra == "thesis.tex" else tmp_path / "runs"
    before = {path: path.lstat().st_mode for path in [tmp_path, *tmp_path.rglob("*")]}
    assert main(["access", str(folder), PUBLIC]) == 2
    assert "nor a folder of runs alone: it has" in capsys.readouterr().err
    assert {path: path.lstat().st_mode for path in [tmp_path, *tmp_path.rglob("*")]} == before


@pytest.mark.parametrize("name", ["profile.yaml", "study.yaml", "pipeline.yaml", "nothing"])
def test_a_project_with_a_profile_of_its_own_is_no_run(tmp_path, name, capsys):
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    if name != "nothing":
        (project / name).write_text("name: mine\n")
        (project / "src" / "model.py").write_text("")
    assert main(["access", str(project), PRIVATE]) == 2
    assert not (project / MARK).exists()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["group"], "which folder or run"),
        (["photoz", "private", "--group", "games"], "--group: has a meaning only with group"),
        (["photoz", "group", "--group", "no-such-group"], "there is no group 'no-such-group'"),
        (["photos", "group"], "no run of this path, name, run id or job id"),
        (["photoz", "everybody"], "everybody: no run of this path"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(run, words, message, capsys):
    assert main(["access", *words]) in (2, 3)
    assert message in capsys.readouterr().err
    assert not (run.path / MARK).exists()


def test_the_access_of_a_run_cannot_change_when_it_is_resumed(run, monkeypatch):
    from hpctrain.launch.resume import resume_problems
    from hpctrain.profile.load import dump_profile, load_profile

    run.profile.write_text("name: photoz\nlaunch: {gpus_per_node: 0}\ndata: {files: [a.h5], simulate: {}}\n")
    before = load_profile(run.profile)
    run.profile.write_text(dump_profile(before))
    after = load_profile(run.profile, ["launch.access=public"])
    (problem,) = resume_problems(run, after)
    assert problem.where == "launch.access"
    assert problem.message.endswith("hpctrain access runs/photoz/20261126-120000-0001 public")
    assert resume_problems(run, before) == []


def test_members_of_the_group_list_the_run_and_strangers_do_not_see_it(users, capsys):
    def submitted():
        run = RunDir.create(users / "runs", "photoz", "20261126-120000-0001", GROUP, shared_group().gr_name)
        enter(run.path)
        run.profile.write_text("name: photoz\n")
        write_json(run.job, {"name": "photoz"})
        return str(run.path)

    def seen():
        return [(run.run_id, describe_any(run).state) for run in all_runs(users / "runs")]

    run = RunDir(as_user(OWNER, submitted))
    assert seen() == [("20261126-120000-0001", "not submitted")]
    assert as_user(MEMBER, seen) == seen()
    assert as_user(STRANGER, seen, in_group=False) == []

    def followed():
        enter(run.path)
        write_json(run.job, {"name": "photoz", "by": "member"})

    as_user(MEMBER, followed)
    assert stat.S_IMODE(run.job.stat().st_mode) == FILES[GROUP]
