"""`hpctrain lint`: our own scripts are clean, exit codes, comments that switch rules off, formats, `--fix`, page."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hpctrain.cli import main
from hpctrain.launch.plan import plan_job
from hpctrain.launch.targets import find_target
from hpctrain.launch.targets.slurm_script import render
from hpctrain.lint.check import RULES, check, read
from hpctrain.lint.page import rules_page
from hpctrain.lint.script import BatchScript
from hpctrain.profile.load import load_profile

REPOSITORY = Path(__file__).resolve().parents[3]
TRAPS = "#!/bin/bash\n#SBATCH --time=24:00\n#SBATCH --requeue\npython train.py\n"


@pytest.fixture
def traps(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a job.sbatch"
    path.write_text(TRAPS)
    return path


def test_our_script_for_sbatch_is_clean():
    assert check(read(REPOSITORY / "slurm" / "train_hpc.sh")) == []


@pytest.mark.parametrize("name", ["hpc", "spectral-cnn", "trees"])
def test_the_scripts_that_we_render_are_clean(name, tmp_path):
    profile = load_profile(REPOSITORY / "profiles" / f"{name}.yaml")
    plan = plan_job(profile, tmp_path / "run", find_target("slurm"))
    assert [(each.rule.name, each.found) for each in check(BatchScript(render(plan)))] == []


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 7),
        (["--fail-on", "error"], 7),
        (["--disable", "minutes-and-seconds,requeue-truncates-log"], 0),
        (["--disable", "minutes-and-seconds,requeue-truncates-log", "--fail-on", "note"], 7),
        (["--disable", "no-such-rule"], 2),
        (["--explain", "fixed-prot"], 2),
    ],
)
def test_exit_codes(traps, options, code):
    assert main(["lint", str(traps), *options]) == code


def test_a_file_that_cannot_be_read_is_an_error_of_the_command_line(tmp_path, capsys):
    (tmp_path / "binary").write_bytes(b"\x7fELF\0")
    assert main(["lint", str(tmp_path / "missing.sbatch")]) == 2
    assert main(["lint", str(tmp_path / "binary")]) == 2
    said = capsys.readouterr().err
    assert "missing.sbatch: 1 problem\n  cannot be read: No such file" in said
    assert "zero bytes" in said


def test_text_names_line_reason_and_fix(traps, capsys):
    main(["lint", str(traps)])
    said = capsys.readouterr().out
    assert f"{traps}:2: error: --time=24:00 is 24 minutes and 0 seconds [minutes-and-seconds]\n    why: " in said
    assert "\n    fix: Write all three parts" in said
    assert said.endswith("1 file: 1 error, 1 warning, 1 note\n")


def test_json_has_one_entry_per_finding(traps, capsys):
    main(["lint", str(traps), "--format", "json"])
    found = json.loads(capsys.readouterr().out)
    assert [(each["line"], each["rule"], each["level"]) for each in found] == [
        (2, "minutes-and-seconds", "error"),
        (3, "requeue-truncates-log", "warning"),
        (4, "buffered-output", "note"),
    ]


def test_sarif_points_to_the_file_in_the_repository_and_to_the_rule(traps, capsys):
    main(["lint", str(traps), "--format", "sarif"])
    log = json.loads(capsys.readouterr().out)
    assert (log["version"], len(log["runs"])) == ("2.1.0", 1)
    assert log["$schema"].endswith("/sarif-schema-2.1.0.json")
    run = log["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(RULES)
    for rule in rules:
        assert all(rule[part]["text"] for part in ("shortDescription", "fullDescription", "help"))
        assert rule["defaultConfiguration"]["level"] in ("error", "warning", "note")
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        place = result["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "a%20job.sbatch"  # relative: GitHub knows no other
        assert place["region"]["startLine"] >= 1
    assert len(run["results"]) == 3


def test_a_comment_switches_a_rule_off_for_its_line_or_for_the_file():
    on_line = TRAPS.replace("24:00\n", "24:00 # hpctrain-lint: disable=minutes-and-seconds on purpose\n")
    in_file = TRAPS + "# hpctrain-lint: disable=minutes-and-seconds,buffered-output\n"
    other_line = TRAPS.replace("--requeue\n", "--requeue # hpctrain-lint: disable=minutes-and-seconds\n")
    names = [[each.rule.name for each in check(BatchScript(text))] for text in (on_line, in_file, other_line)]
    assert names == [
        ["requeue-truncates-log", "buffered-output"],
        ["requeue-truncates-log"],
        ["minutes-and-seconds", "requeue-truncates-log", "buffered-output"],
    ]


def test_fix_changes_only_what_is_safe_and_keeps_the_permissions(traps):
    traps.write_bytes(TRAPS.replace("\n", "\r\n").encode())
    traps.chmod(0o750)
    main(["lint", str(traps), "--fix"])
    assert traps.read_text() == TRAPS.replace("--requeue\n", "--requeue\n#SBATCH --open-mode=append\n")
    assert os.stat(traps).st_mode & 0o777 == 0o750
    before = traps.read_bytes()
    main(["lint", str(traps), "--fix"])
    assert traps.read_bytes() == before


def test_explain_and_list_need_no_file(capsys):
    assert main(["lint", "--explain", "trap-waits"]) == 0
    assert capsys.readouterr().out.startswith("trap-waits (error): ")
    assert main(["lint", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(RULES)


def test_the_page_has_the_rules_as_they_are():
    """Write it anew with: python -c "from hpctrain.lint.page import rules_page; print(rules_page())"."""
    page = (REPOSITORY / "docs" / "lint.md").read_text()
    assert page.partition("<!-- made from the rules -->\n")[2] == "\n" + rules_page()


def test_no_password_of_a_script_is_printed(tmp_path, capsys):
    path = tmp_path / "a.sbatch"
    path.write_text("#!/bin/bash\n#SBATCH --time=10\nexport DB_PASSWORD=tr0ub4dor-and-3\nsrun true\n")
    assert main(["lint", str(path)]) == 7
    assert "tr0ub4dor" not in "".join(capsys.readouterr())
