"""``hpctrain list --where``: which runs a condition finds, and what a wrong one is answered."""

from __future__ import annotations

import contextlib
import json
import string

import pytest
from filled_folder import judge, make_run, start
from hypothesis import given
from hypothesis import strategies as st

from hpctrain.cli import main
from hpctrain.errors import ProfileError
from hpctrain.index.query import Question, find_runs
from hpctrain.index.where import parse
from hpctrain.rundir import RunDir

CONDITIONS = [
    ("chi2 < 1.2 and family = spectral_vae", "1"),
    ("chi2 < 1.2", "13"),
    ("chi2<1.2 or not family==spectral_vae", "134"),
    ("1 < chi2 <= 1.3", "12"),
    ("1.2 > chi2", "13"),
    ("not (chi2 < 1.2)", "24"),
    ("last.chi2 = 1.3 or highest.chi2 = 2.2 or lowest.chi2 = 0.9", "123"),
    ("purity is none", "4"),
    ("purity != none and purity > 1", "3"),
    ("train.batch_size = 128", "2"),
    ("batch_size in (128, 256) or model.trees >= 40", "24"),
    ("batch_size not in (128, 256)", "134"),
    ("checkpoint.asynchronous = True and trees < 15", "1"),
    ("name = 'quasars' and model.family != \"trees\"", "12"),
    ("name ~ *a* and name !~ quas*", "34"),
    ("name ~ 'st[a]rs'", ""),
    ("state = running", "4"),
    ("Z.nmad < 0.02 and nmad > 0.01 and Z.outliers_0.15 = 0.2", "1"),
    ("gates = passed", "1"),
    ("submitted >= 2026-09-21 and submitted < '2026-09-21 15:00' and age > 1h", "1234"),
    ("step = 100 and `chi2` > 0 and objective = loss", "123"),
    ("run ~ */runs/galaxies/*", "3"),
    ("family = '; DROP TABLE runs; --' or name = '%'", ""),
]
"""Condition, and the numbers of the runs of the filled folder that meet it."""


def numbers(database, where, **facts):
    with database.reading() as connection:
        found = list(find_runs(connection, Question(where, **facts)))
    return "".join(str(int(each["run_id"][-4:], 16)) for each in found)


def test_a_condition_finds_the_runs_that_meet_it(seen):
    for where, expected in CONDITIONS:
        assert numbers(seen, where, sort="run_id") == expected, where


def test_runs_are_sorted_by_metrics_keys_and_columns_and_those_without_come_last(seen):
    assert numbers(seen, None, sort="chi2") == "3124"
    assert numbers(seen, None, sort="purity desc") == "3124"
    assert numbers(seen, None, sort="train.batch_size desc, name, chi2 desc") == "2314"
    assert numbers(seen, None, sort="chi2 desc", limit=2) == "42"
    assert numbers(seen, None) == "4321"
    assert numbers(seen, None, name="qua*", states=["finished"]) == "21"


def test_the_list_shows_what_was_asked_for(folder, index, capsys):
    command = ["list", "--where", "chi2 < 1.2", "--sort", "chi2", "--show", "train.batch_size", "--limit", "1"]
    assert main(command) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == ["chi2", "train.batch_size"]
    assert line.split()[0] == "galaxies"
    assert line.split()[-2:] == ["0.9", "64"]
    assert main([*command, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["chi2"] == 0.9
    assert found["train.batch_size"] == 64
    assert RunDir(found["run"]).name == "galaxies"


def test_the_list_knows_what_has_happened_since_the_last_update(folder, index, capsys):
    start(make_run(folder, "stars", 7))
    judge(RunDir(next((folder / "runs" / "stars").glob("*0007"))))
    assert main(["list", "--where", "nmad < 1 and name = stars", "--no-update"]) == 0
    assert "no runs that meet" in capsys.readouterr().out
    assert main(["list", "--where", "nmad < 1 and name = stars"]) == 0
    assert "0007" in capsys.readouterr().out


def test_all_wrong_names_and_values_are_named_at_once_with_near_names(seen):
    with pytest.raises(ProfileError) as error:
        numbers(seen, "chii2 < 1 and train.batchsize = 3 and step = many and best ~ 1* and started > noon and q < none")
    said = str(error.value)
    assert "6 problems" in said
    assert "character 1: there is no column, metric or key 'chii2'; did you mean 'chi2'?" in said
    assert "did you mean 'train.batch_size'?" in said
    assert "step is a number, found 'many'" in said
    assert "best is no text" in said
    assert "started is a time, found 'noon'; write it as 2026-11-26" in said
    with pytest.raises(ProfileError, match="columns are id, run"):
        numbers(seen, "wholly_unlike_anything_else = 1")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("chi2 <", "character 7: a value must stand here"),
        ("chi2 1", "character 6: there must be one of ="),
        ("chi2 < 1 best > 2", "character 10: found 'best'; between two conditions"),
        ("(chi2 < 1", "there must be '\\)' at the end"),
        ("name = 'x", "' is never closed"),
        ("chi2 < 1;", "a number"),
        ("chi2 in 1", "there must be '\\(' after 'in'"),
        ("chi2 is 3", "to compare, write ="),
        ("", "a name, such as chi2"),
        ("(" * 60 + "a = 1", "more than 50 parentheses"),
    ],
)
def test_a_condition_with_a_mistake_is_refused_with_its_place(seen, where, said):
    with pytest.raises(ProfileError, match=said):
        numbers(seen, where or " ")


@given(st.text(alphabet=string.printable, max_size=60))
def test_any_text_is_a_condition_or_a_problem(text):
    with contextlib.suppress(ProfileError):
        parse(text)
