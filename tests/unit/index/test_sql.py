"""``hpctrain sql`` reads the index, in three forms, and can change nothing."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from filled_folder import make_study, places_in
from rows_of_index import all_rows
from sql_examples import statements

from hpctrain.cli import main
from hpctrain.errors import ProfileError, SiteError
from hpctrain.index.read_only import ask
from hpctrain.index.update import update
from hpctrain.index.views import views

PAGE = Path(__file__).resolve().parents[3] / "docs" / "runs-in-sql.md"
WRITES = [
    "DROP TABLE runs",
    "DELETE FROM runs",
    "UPDATE runs SET name = 'x'",
    "INSERT INTO about VALUES ('a', 'b')",
    "CREATE TABLE t (x)",
    "CREATE TEMP TABLE t (x)",
    "ATTACH 'other.sqlite' AS other",
    "VACUUM INTO 'copy.sqlite'",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = wal",
    "BEGIN",
    "SELECT load_extension('x')",
    "SELECT 1; DROP TABLE runs",
    "WITH x AS (SELECT 1) DELETE FROM runs",
    "REINDEX",
]


def test_a_statement_that_does_more_than_read_is_refused(filled, seen):
    before, files = all_rows(seen), sorted(path.name for path in filled.iterdir())
    for statement in WRITES:
        with pytest.raises(ProfileError, match="give one SELECT"):
            list(ask(seen, statement, 10.0))
    assert all_rows(seen) == before
    assert sorted(path.name for path in filled.iterdir()) == files


def test_rows_come_as_a_table_as_csv_and_as_json(seen, capsys, monkeypatch):
    statement = "SELECT name, best, kwh, started FROM run_list WHERE name = 'galaxies'"
    assert main(["sql", statement]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "best", "kwh", "started"]
    assert line.split()[:3] == ["galaxies", "0.9", "-"]
    assert main(["sql", "--csv", statement]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["best"] == "0.9"
    assert row["kwh"] == ""
    assert re.fullmatch(r"20\d\d-\d\d-\d\d [\d:]{8}", row["started"])
    monkeypatch.setattr("sys.stdin", io.StringIO(statement))
    assert main(["sql", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == [{**row, "best": 0.9, "kwh": None}]
    assert main(["sql", "--json", "SELECT 1 WHERE 0"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_wrong_statement_is_answered_with_the_view_that_was_meant(seen, capsys):
    assert main(["sql", "SELECT * FROM run_lists"]) == 2
    assert "no such table: run_lists; give one SELECT; did you mean the view run_list?" in capsys.readouterr().err
    assert main(["sql"]) == 2
    assert main(["sql", " "]) == 2


def test_a_statement_without_end_is_ended(seen):
    endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"
    with pytest.raises(SiteError, match=r"needs more than 0\.1 s"):
        list(ask(seen, endless, 0.1))


def test_without_an_index_the_user_is_told_to_make_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["sql", "SELECT 1"]) == 3
    assert "make it with 'hpctrain index update'" in capsys.readouterr().err
    assert main(["index", "update"]) == 3
    assert "there is no such folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_view_answers_and_stands_in_the_documentation(seen):
    page = PAGE.read_text()
    for view in views("sqlite"):
        columns = next(ask(seen, f"SELECT * FROM {view.name}", 10.0))
        assert list(columns) == list(view.columns)
        rows = "".join(f"| `{name}` | {text} |\n" for name, (_, text) in view.columns.items())
        assert f"### {view.name}\n\n{view.about}\n\n| column | |\n|---|---|\n{rows}" in page


def test_every_statement_of_the_documentation_answers(folder, index):
    make_study(folder)
    update(index, places_in(folder))
    found = {statement: len(list(ask(index, statement, 10.0))) - 1 for statement in statements(PAGE)}
    assert len(found) == 9
    assert all(found.values()), found
