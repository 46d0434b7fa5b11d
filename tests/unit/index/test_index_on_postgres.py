"""The index on a real PostgreSQL: the same answers, read-only, and whole after the server was killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from filled_folder import change, finished, make_study, places_in
from mlflow_lab import Postgres, cache_folder, postgres_programs
from rows_of_index import all_rows, fresh_index, new_rows
from sql_examples import statements
from sqlalchemy import text
from test_where import CONDITIONS, numbers

from hpctrain.cli import main
from hpctrain.errors import ProfileError, SiteError
from hpctrain.index.database import database_at
from hpctrain.index.read_only import ask
from hpctrain.index.update import rebuild, update
from hpctrain.index.views import views

PAGE = Path(__file__).resolve().parents[3] / "docs" / "runs-in-sql.md"
WRITES = [
    "DROP TABLE runs",
    "DELETE FROM runs",
    "SELECT 1; DROP TABLE runs",
    "COMMIT; DROP TABLE runs",
    "SET TRANSACTION READ WRITE",
    "WITH x AS (DELETE FROM runs RETURNING 1) SELECT * FROM x",
    "COPY runs TO '/tmp/runs'",
    "CREATE TEMP TABLE t (x int)",
    "SELECT 1 INTO t",
    "SELECT setval('x', 1)",
    "DO $$ BEGIN DELETE FROM runs; END $$",
]


@pytest.fixture(scope="module")
def server():
    if postgres_programs() is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    server = Postgres(cache_folder() / "postgres-empty")
    yield server
    server.stop()


@pytest.fixture
def index(database, folder):
    update(database, places_in(folder))
    return database


@pytest.fixture
def database(server, folder):
    return emptied(server, folder)


def emptied(server, folder):
    """Return an index without tables: the files of a server of an earlier session may hold some."""
    found = database_at(server.url, folder / "runs")
    with found.writing() as connection, connection.begin():
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    return found


def same(folder, database):
    """Return whether the rows are those of a new index in SQLite; the facts about the views differ."""
    ours, others = (rows | {"about": []} for rows in (all_rows(database), new_rows(folder)))
    return ours == others


def test_postgresql_holds_the_rows_of_sqlite_after_each_kind_of_change(folder, database):
    update(database, places_in(folder))
    assert same(folder, database)
    for step in change(folder):
        step()
        update(database, places_in(folder))
    assert same(folder, database)
    before = all_rows(database)
    rebuild(database, places_in(folder))
    assert all_rows(database) == before


def test_postgresql_finds_the_same_runs_and_answers_every_view_and_example(folder, index):
    for where, expected in CONDITIONS:
        assert numbers(index, where, sort="run_id") == expected, where
    assert numbers(index, None, sort="train.batch_size desc, name, chi2 desc") == "2314"
    make_study(folder)
    update(index, places_in(folder))
    for view in views("postgresql"):
        assert list(next(ask(index, f"SELECT * FROM {view.name}", 10.0))) == list(view.columns)
    compared = fresh_index(folder, folder / "compared.sqlite")
    for statement in statements(PAGE):
        assert len(list(ask(index, statement, 10.0))) == len(list(ask(compared, statement, 10.0))), statement


def test_postgresql_refuses_statements_that_do_more_than_read(folder, index):
    before = all_rows(index)
    for statement in WRITES:
        with pytest.raises(ProfileError, match="give one SELECT"):
            list(ask(index, statement, 10.0))
    assert all_rows(index) == before
    with pytest.raises(SiteError, match=r"needs more than 0.1 s"):
        list(ask(index, "SELECT pg_sleep(10)", 0.1))


def test_a_server_that_is_killed_while_it_writes_is_caught_up_with_later(folder, monkeypatch, capsys):
    if postgres_programs() is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    server = Postgres(cache_folder() / "postgres-empty")
    database = emptied(server, folder)
    update(database, places_in(folder))
    finished(folder, "later", 6, 1.0)
    with database.writing() as connection:
        connection.begin()
        connection.execute(text("DELETE FROM runs"))
        server.kill()
        monkeypatch.setenv("HPCTRAIN_INDEX", server.url.replace("lab@", "lab:s3cret@"))
        assert main(["index", "update"]) == 3
        said = capsys.readouterr().err
        assert "runs go on without it" in said
        assert "s3cret" not in said
        assert said.count("\n") == 1
        assert main(["list"]) == 0
        with pytest.raises(Exception, match=r"closed|terminat"):
            connection.execute(text("SELECT 1"))
        connection.invalidate()
    server.start()
    assert main(["index", "update"]) == 0
    assert "s3cret" not in capsys.readouterr().out
    assert same(folder, database)
    server.stop()


def test_a_password_on_the_command_line_is_refused_and_not_printed(folder, capsys):
    assert main(["list", "--where", "chi2 < 1", "--index", "postgresql://me:s3cret@127.0.0.1:1/x"]) == 2
    said = capsys.readouterr().err
    assert "~/.pgpass" in said
    assert "s3cret" not in said
    assert main(["index", "update", "--index", "mysql://me@host/x"]) == 2
    assert "postgresql://USER@HOST:PORT/DATABASE" in capsys.readouterr().err
