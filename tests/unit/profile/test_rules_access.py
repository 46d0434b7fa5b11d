"""What ``hpctrain check`` says of ``launch.access`` and ``launch.group``; pipelines have the same rules."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from permissions import STRANGER, as_user, open_to_users, shared_group, wrong_permissions

from hpctrain.cli import main
from hpctrain.errors import ProfileError, SiteError
from hpctrain.launch.plan import plan_job
from hpctrain.launch.submit import prepare
from hpctrain.launch.targets import find_target
from hpctrain.pipeline.file import read_pipeline
from hpctrain.pipeline.run import open_pipeline
from hpctrain.profile.check import check_profile
from hpctrain.profile.load import load_profile
from hpctrain.profile.site import load_site

PROFILE = "name: tiny\nlaunch: {{gpus_per_node: 0, cpus_per_rank: 1, {0}}}\ndata: {{files: [a.h5], simulate: {{}}}}\n"
users = pytest.fixture(open_to_users)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPCTRAIN_SITES", str(tmp_path))
    return tmp_path


def found(launch: str) -> tuple[list[str], list[str]]:
    Path("tiny.yaml").write_text(PROFILE.format(launch))
    findings = check_profile("tiny.yaml", memory=False)
    return [str(each) for each in findings.problems], [
        str(each) for each in findings.warnings if "launch" in each.where
    ]


@pytest.mark.parametrize(
    ("launch", "problem"),
    [
        ("access: group, group: no-such", "launch.group: there is no group 'no-such' on this machine; yours are "),
        ("group: astro", "launch.group: 'astro' has a meaning only with access: group; access is not set"),
        ("access: private, group: astro", "launch.group: 'astro' has a meaning only with access: group; access is pri"),
        ("access: everybody", "launch.access: found 'everybody'; must be one of private, group, public"),
        ("access: group, group: 'a b'", "launch.group: found 'a b'"),
    ],
)
def test_a_group_that_cannot_be_used_is_a_problem(folder, launch, problem):
    problems, _ = found(launch)
    assert len(problems) == 1, problems
    assert problem in problems[0]


def test_a_group_that_this_user_is_not_in_is_a_problem(users, monkeypatch):
    monkeypatch.chdir(users)
    name = shared_group().gr_name
    Path("tiny.yaml").write_text(PROFILE.format(f"access: group, group: {name}"))
    assert check_profile("tiny.yaml", memory=False).problems == []  # root is in all groups, and loads all modules here
    problems = as_user(STRANGER, lambda: found_as_stranger("tiny.yaml"), in_group=False)
    assert problems == [f"you are not in the group '{name}'; yours are {STRANGER}"]
    as_user(65_021, lambda: found_as_stranger("tiny.yaml") == [])


def found_as_stranger(path):
    return [each.message for each in check_profile(path, memory=False).problems if each.where == "launch.group"]


def test_the_group_of_a_site_is_judged_too(folder):
    (folder / "leo.yaml").write_text("access: group\ngroup: no-such\n")
    (problem,), _ = found("site: leo")
    assert problem.startswith("line 2: launch.site: there is no group 'no-such'")
    assert problem.endswith("(group of leo.yaml)")
    assert found("site: leo, access: private")[0] == []


def test_a_folder_above_the_runs_that_keeps_the_group_out_is_a_warning(folder):
    folder.chmod(0o700)
    _, warnings = found(f"access: group, group: {shared_group().gr_name if os.geteuid() == 0 else own_group()}")
    assert any("lets members of" in each and "access control list" in each for each in warnings), warnings
    assert not any("access control list" in each for each in found("access: private")[1])


def own_group() -> str:
    import grp

    return grp.getgrgid(os.getegid()).gr_name


@pytest.mark.parametrize(
    ("site", "launch", "access", "group"),
    [
        ("access: group\ngroup: astro\n", "site: leo", "group", "astro"),
        ("access: group\ngroup: astro\n", "site: leo, access: public", "public", None),
        ("access: group\ngroup: astro\n", "site: leo, group: solar", "group", "solar"),
        ("access: private\n", "site: leo", "private", None),
        ("{}\n", "site: leo", None, None),
    ],
)
def test_the_profile_overrides_the_site_and_the_run_knows_the_result(folder, site, launch, access, group):
    (folder / "leo.yaml").write_text(site)
    (folder / "tiny.yaml").write_text(PROFILE.format(launch))
    submission = prepare([load_profile("tiny.yaml")], "slurm", load_site("leo"))
    chosen = submission.profiles[0].launch
    assert (chosen.access, chosen.group) == (access, group)
    umask = {"group": "umask 007", "private": "umask 077", "public": "umask 022", None: None}[access]
    found = [line for line in submission.texts["job.sh"].splitlines() if line.startswith("umask")]
    assert found == ([umask] if umask else [])


def test_the_umask_comes_before_modules_and_the_lines_of_the_site(folder):
    (folder / "leo.yaml").write_text("modules: [cuda]\nsetup: [touch here]\n")
    (folder / "tiny.yaml").write_text(PROFILE.format("site: leo, access: private"))
    plan = plan_job(load_profile("tiny.yaml"), Path("/runs/a"), find_target("slurm"), load_site("leo"))
    assert plan.setup[:2] == ("umask 077", "module load cuda")


def test_a_pipeline_names_a_wrong_group_with_its_line(folder):
    (folder / "weekly.yaml").write_text(
        "name: weekly\nlaunch: {access: group, group: no-such}\nstages: [{name: one, run: 'true'}]\n"
    )
    with pytest.raises(ProfileError, match=r"line 2: launch\.group: there is no group 'no-such'"):
        read_pipeline("weekly.yaml")


def test_a_pipeline_that_exists_does_not_silently_keep_another_access(folder):
    text = "name: weekly\nlaunch: {cluster: local%s}\nstages: [{name: one, run: 'true'}]\n"
    (folder / "weekly.yaml").write_text(text % "")
    first = open_pipeline(read_pipeline("weekly.yaml"))
    (folder / "weekly.yaml").write_text(text % ", access: private")
    with pytest.raises(SiteError, match=r"umask makes them.*hpctrain access .*/pipelines/weekly private"):
        open_pipeline(read_pipeline("weekly.yaml"))
    assert main(["access", str(first.path), "private"]) == 0
    second = open_pipeline(read_pipeline("weekly.yaml"))
    assert wrong_permissions(second.path.parent, "private") == []
