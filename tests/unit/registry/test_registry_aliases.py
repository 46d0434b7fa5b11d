"""Aliases: promotion through gates, rollback, history, policy."""

from __future__ import annotations

import grp
import os

import pytest
from registered_runs import FAILED, GATE, added, finished_run, validate

from hpctrain.cli import run_command
from hpctrain.errors import CheckpointError, GateError, ProfileError, SiteError
from hpctrain.registry.actions import faults_of, find_version, promote, rollback
from hpctrain.registry.add import add_run
from hpctrain.registry.aliases import aliases_of, history_of
from hpctrain.trail.chain import FILE, read_trail


def own_group():
    return grp.getgrgid(os.getegid()).gr_name


def champion(registry):
    return find_version("photoz@champion", registry).number


def test_a_version_becomes_champion_if_its_gates_passed(registry, runs):
    added(registry, runs, 1.0, [GATE, GATE])
    done = promote("photoz:1", "champion", "the first one", registry)
    assert champion(registry) == find_version("photoz", registry).number == 1
    assert done.move.facts["gates"] == "passed: all 2 passed"
    assert done.move.facts["who"]["uid"] == os.getuid()
    assert promote("photoz:1", "champion", "once more", registry).move is None


@pytest.mark.parametrize(
    ("gates", "reason"),
    [
        (None, "has no results/validation.json"),
        ([], "its profile has no gates"),
        ([GATE, FAILED], r"Z.nmad below 0.02: 0.031, 0.011 beyond the limit"),
        ([{"metric": "Z.nmad"}], "Z|None"),
        (["passed"], "its profile has no gates"),
    ],
)
def test_without_gates_that_passed_a_version_becomes_candidate_but_not_champion(registry, runs, gates, reason):
    added(registry, runs, 1.0, gates)
    with pytest.raises(GateError, match=reason):
        promote("photoz:1", "champion", "I like it", registry)
    assert aliases_of(registry.model("photoz")) == {}
    promote("photoz:1", "candidate", "to be compared", registry)
    assert aliases_of(registry.model("photoz")) == {"candidate": 1}


def test_gates_of_another_model_do_not_count(registry, runs):
    run, other = finished_run(runs, 1.0), finished_run(runs, 2.0)
    validate(other, [GATE])
    (run.results / "validation.json").write_bytes((other.results / "validation.json").read_bytes())
    add_run(run, "photoz", registry)
    with pytest.raises(GateError, match="judges another model"):
        promote("photoz:1", "champion", "it passed", registry)


def test_force_promotes_without_gates_and_stays_in_history_and_trail(registry, runs):
    added(registry, runs, 1.0, [FAILED])
    move = promote("photoz:1", "champion", "the paper is due", registry, force=True).move
    assert move.facts["gates"].startswith("forced although Z.nmad below 0.02")
    entries = list(read_trail(registry.path / FILE))
    assert [entry.facts["action"] for entry in entries] == ["add", "promote"]
    assert entries[-1].facts["details"]["why"] == "the paper is due"
    assert entries[-1].facts["details"]["gates"] == move.facts["gates"]


def test_rollbacks_go_back_one_promotion_each(registry, runs):
    for number in (1, 2, 3):
        added(registry, runs, number, [GATE])
        promote(f"photoz:{number}", "champion", f"better {number}", registry)
    assert rollback("photoz", "champion", "a bad night", registry).to == 2
    assert rollback("photoz", "champion", "worse than I thought", registry).to == 1
    with pytest.raises(ProfileError, match="had no version before photoz:1"):
        rollback("photoz", "champion", "once more", registry)
    promote("photoz:3", "champion", "mended data", registry)
    assert rollback("photoz", "champion", "no", registry).to == 1
    moves = history_of(registry.model("photoz"), "champion")
    found = [(move.facts["action"], move.facts["from"], move.to) for move in moves]
    assert found == [
        ("promote", None, 1),
        ("promote", 1, 2),
        ("promote", 2, 3),
        ("rollback", 3, 2),
        ("rollback", 2, 1),
        ("promote", 1, 3),
        ("rollback", 3, 1),
    ]
    assert [move.facts["why"] for move in moves][3] == "a bad night"


def test_a_damaged_version_is_neither_promoted_nor_rolled_back_to(registry, runs):
    first = added(registry, runs, 1.0, [GATE])
    added(registry, runs, 2.0, [GATE])
    promote("photoz:1", "champion", "first", registry)
    promote("photoz:2", "champion", "second", registry)
    (first.path / "profile.yaml").chmod(0o644)
    (first.path / "profile.yaml").write_text("name: other\n")
    with pytest.raises(CheckpointError, match="photoz:1 is not as it was added"):
        rollback("photoz", "champion", "back", registry)
    with pytest.raises(CheckpointError, match="photoz:1 is not as it was added"):
        promote("photoz:1", "candidate", "back", registry)
    assert champion(registry) == 2


def test_a_changed_or_missing_move_is_found(registry, runs):
    for number in (1, 2):
        added(registry, runs, number, [GATE])
        promote(f"photoz:{number}", "champion", "better", registry)
    folder = registry.model("photoz").aliases / "champion"
    first = folder / "00000001.json"
    text = first.read_text()
    first.chmod(0o644)
    first.write_text(text.replace("better", "worse!"))
    with pytest.raises(CheckpointError, match="does not agree with its own SHA-256"):
        champion(registry)
    first.unlink()
    assert any("00000001.json" in fault for _, faults, _ in faults_of(registry, ["photoz"]) for fault in faults)


def test_the_policy_says_who_may_move_which_alias_and_which_ones_need_gates(registry, runs):
    added(registry, runs, 1.0)
    registry.policy.write_text(
        f"aliases:\n  champion: {{gates: false, move: [{own_group()}]}}\n  shadow: {{move: [nobody-is-in-this]}}\n"
        "  release: {gates: true, force: [nobody-is-in-this]}\n"
    )
    promote("photoz:1", "champion", "no gates here", registry)
    with pytest.raises(SiteError, match=r"may not move the alias shadow: only members of nobody-is-in-this may"):
        promote("photoz:1", "shadow", "please", registry)
    with pytest.raises(GateError):
        promote("photoz:1", "release", "please", registry)
    with pytest.raises(SiteError, match="with --force"):
        promote("photoz:1", "release", "please", registry, force=True)
    with pytest.raises(SiteError, match="may not move the alias shadow"):
        rollback("photoz", "shadow", "please", registry)


def test_the_policy_says_who_may_add(registry, runs):
    registry.path.mkdir()
    registry.policy.write_text("add: [nobody-is-in-this]\n")
    with pytest.raises(SiteError, match="may not add versions"):
        added(registry, runs, 1.0)


def test_mistakes_in_the_policy_are_all_reported_with_their_lines(registry, runs):
    registry.path.mkdir()
    registry.policy.write_text("ad: [a]\naliases:\n  Champion: {gates: true}\n  candidate: {gates: 3}\n")
    with pytest.raises(SiteError) as caught:
        added(registry, runs, 1.0)
    said = str(caught.value)
    assert "3 problems" in said
    for text in (
        "line 1: ad: unknown key; did you mean 'add'?",
        "line 3: ",
        "line 4: aliases.candidate.gates: found 3",
    ):
        assert text in said


@pytest.mark.parametrize("alias", ["latest", "v1", "Champion", "a b", "../x", "1"])
def test_an_alias_that_is_a_path_or_has_another_meaning_is_refused(registry, runs, alias):
    added(registry, runs, 1.0)
    with pytest.raises(ProfileError, match="is no alias"):
        promote("photoz:1", alias, "why", registry)


def test_the_command_promotes_and_rolls_back_with_exit_code_7_for_gates(registry, runs, capsys):
    added(registry, runs, 1.0, [FAILED])
    added(registry, runs, 2.0, [GATE])
    where = ["--registry", str(registry.path)]
    words = ["promote", "photoz:1", "--to", "champion", *where]
    assert run_command("registry", [*words, "--why", "try"]) == 7
    assert "0.011 beyond the limit" in capsys.readouterr().err
    assert run_command("registry", [*words, "--why", " "]) == 2
    assert run_command("registry", [*words, "--why", "the password is in lab:secret@host, token=abc12345"]) == 2
    assert run_command("registry", [*words, "--why", "try", "--force"]) == 0
    assert run_command("registry", ["promote", "photoz:2", "--to", "champion", "--why", "better", *where]) == 0
    assert run_command("registry", ["rollback", "photoz", "--why", "a bad night", *where]) == 0
    assert "photoz@champion means version 1 now, after version 2" in capsys.readouterr().out
    assert run_command("registry", ["show", "photoz", *where]) == 0
    assert "rollback champion: 2 -> 1" in capsys.readouterr().out
