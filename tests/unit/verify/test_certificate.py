"""The table says what differs and can be checked for edits wherever it is pasted; wrong command lines start nothing."""

from __future__ import annotations

import json

import pytest
import yaml

from hpctrain.cli import main
from hpctrain.rundir import RunDir
from hpctrain.verify.certificate import Certificate, check_tables
from hpctrain.verify.compare import Part
from hpctrain.verify.twins import Cut, Twins

CUT = Cut("SIGKILL to all ranks", "step 8", 7, 1.25, [-9, -9], 5, 2)


@pytest.fixture
def certify(tmp_path):
    def make(parts, too_late=""):
        twins = [RunDir.create(tmp_path, "twins", f"run-{index}") for index in range(2)]
        twins[0].profile.write_text("name: small\n")
        done = Twins([CUT, Cut("SIGUSR2 to one rank", "imports, rendezvous", None, 0.5, [75, 75], 5, 0)], 3, too_late)
        return Certificate("small", "hpctrain verify-resume small.yaml", 4, 2, 40, *twins, done, parts)

    return make


def test_the_table_says_identical_only_if_every_part_is(certify):
    good = Part("the model", "aa", "aa")
    assert "# Resume check of `small`: identical\n" in certify([good]).render()


def test_what_differs_stands_in_the_table_and_in_the_json(certify):
    found = certify([Part("the model", "aa", "aa"), Part("logged in training", "40", "40", ["step 17 loss"])])
    table = found.render()
    assert "# Resume check of `small`: NOT identical\n" in table
    assert "| logged in training | 40 | 40 | **differs** |" in table
    assert "Differs in logged in training: step 17 loss." in table
    parsed = json.loads(json.dumps(found.as_json()))
    assert parsed["identical"] is False
    assert [part["identical"] for part in parsed["compared"]] == [True, False]
    assert parsed["cuts"][0]["phase"] == "step 8"


def test_the_table_lists_each_cut_and_what_came_too_late(certify):
    table = certify([], too_late="SIGTERM to all ranks").render()
    assert "| 1 | SIGKILL to all ranks | 1.25 s | step 8 | 7 | -9, -9 | step 5 | 2 |" in table
    assert "| 2 | SIGUSR2 to one rank | 0.50 s | imports, rendezvous | none yet | 75, 75 | step 5 | 0 |" in table
    assert "was interrupted 2 times" in table
    assert "Not counted: SIGTERM to all ranks" in table


def test_a_table_that_was_edited_in_any_place_fails_its_check(certify):
    table = certify([Part("the model", "aa", "bb")]).render()
    assert list(check_tables(table)) == [("Resume check of `small`: NOT identical", True)]
    for old, new in (("NOT identical", "identical"), ("| bb |", "| aa |"), ("-9, -9", "75, 75"), ("| 2 |", "| 0 |")):
        assert old in table
        assert [is_intact for _, is_intact in check_tables(table.replace(old, new))] == [False]


def test_tables_are_found_and_checked_within_a_longer_text(certify):
    table = certify([]).render()
    pasted = f"# Appendix\n\n```\n{table}```\n\ntext\n\n{table.replace('-9', '-8')}".replace("\n", "\r\n")
    assert [is_intact for _, is_intact in check_tables(pasted)] == [True, False]


def test_check_tells_intact_edited_and_no_table_apart_by_its_exit_code(certify, tmp_path, capsys):
    file = tmp_path / "table.md"
    file.write_text(certify([]).render())
    assert main(["verify-resume", "--check", str(file)]) == 0
    assert "as it was written" in capsys.readouterr().out
    file.write_text(file.read_text().replace("step 8", "update 9"))
    assert main(["verify-resume", "--check", str(file)]) == 5
    assert "EDITED" in capsys.readouterr().out
    file.write_text("no table")
    assert main(["verify-resume", "--check", str(file)]) == 2
    assert main(["verify-resume", "--check", str(tmp_path / "absent.md")]) == 2


def test_all_that_is_wrong_with_profile_and_command_line_is_said_at_once_and_nothing_is_started(tmp_path, capsys):
    profile = tmp_path / "wrong.yaml"
    runs = tmp_path / "runs"
    profile.write_text(
        yaml.safe_dump(
            {
                "name": "wrong",
                "launch": {"runs_dir": str(runs)},
                "data": {"files": ["absent.h5"]},
                "train": {"epoch": 3},
            }
        )
    )
    wrong = ["--kills", "0", "--steps", "-1", "--out", str(tmp_path / "no" / "table.md")]
    assert main(["verify-resume", str(profile), *wrong]) == 2
    said = capsys.readouterr().err
    for part in ("--kills: 0", "--steps: -1", "--out:", "absent.h5", "did you mean 'epochs'", "5 problems"):
        assert part in said
    assert not runs.exists()


def test_more_ranks_than_an_update_has_micro_batches_are_refused(tmp_path, capsys):
    profile = tmp_path / "small.yaml"
    profile.write_text(
        yaml.safe_dump(
            {
                "name": "small",
                "launch": {"runs_dir": str(tmp_path / "runs"), "gpus_per_node": 0, "ranks_per_node": 2},
                "data": {"files": [str(tmp_path / "made.h5")], "simulate": {"num_spectra": 300, "num_pixels": 200}},
                "model": {"encoder_channels": [4, 8], "encoder_kernels": [5, 5]},
                "train": {"batch_size": 16, "warmup_steps": 5},
            }
        )
    )
    assert main(["verify-resume", str(profile), "--ranks", "4"]) == 2
    assert "do not divide the global batch of 32" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_without_a_profile_it_says_so(capsys):
    assert main(["verify-resume"]) == 2
    assert "which profile?" in capsys.readouterr().err
