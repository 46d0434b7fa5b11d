"""An index that was kept up to date equals a new one, whatever has happened on the disk or to its writer."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from filled_folder import change, evaluate, finished, make_run, make_study, places_in, start
from processes import wait_until
from rows_of_index import all_rows, new_rows
from sqlalchemy import text

from hpctrain.cli import main
from hpctrain.errors import SiteError
from hpctrain.index import database as database_module
from hpctrain.index import reading, schema, tables
from hpctrain.index import update as update_module
from hpctrain.index.update import rebuild, update
from hpctrain.rundir import RunDir
from hpctrain.search.folder import write_once
from hpctrain.states import LOST


def age(folder):
    """Let all files be older than the moment in which a second change might go unnoticed."""
    for root, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            found = os.stat(path := os.path.join(root, name))
            os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - 10**10))


def test_an_index_that_is_updated_after_each_change_equals_a_new_one(folder, index):
    assert all_rows(index) == new_rows(folder)
    for number, step in enumerate(change(folder)):
        step()
        update(index, places_in(folder))
        assert all_rows(index) == new_rows(folder), f"change {number}"
    age(folder)
    update(index, places_in(folder))
    before = all_rows(index)
    rebuild(index, places_in(folder))
    assert all_rows(index) == before


def test_several_processes_read_the_same_rows_as_one(folder, index, monkeypatch):
    make_study(folder)
    run = next((folder / "runs" / "stars").glob("2*"))
    (run / "job.json").write_text("[" * 100_000)
    one = new_rows(folder)
    monkeypatch.setattr(reading, "_WORTH_IT", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert new_rows(folder) == one
    assert rebuild(index, places_in(folder)).read == 11
    assert all_rows(index) == one


def test_only_what_has_changed_is_read_again(folder, index):
    age(folder)
    assert update(index, places_in(folder)).read == 7
    assert update(index, places_in(folder)).read == 0
    stars = next((folder / "runs" / "stars").glob("2*"))
    with open(stars / "metrics.jsonl", "a") as stream:
        stream.write('{"kind":"eval","step":8,"time":1795730400.5,"attempt":1,"loss":2.5}\n')
    done = update(index, places_in(folder))
    assert (done.read, done.unchanged, done.removed) == (1, 6, 0)


def test_a_change_of_the_same_size_within_the_same_tick_is_not_missed(folder, index):
    run = next((folder / "runs" / "quasars").glob("2*"))
    text_before = (run / "metrics.jsonl").read_text()
    found = os.stat(run / "metrics.jsonl")
    with open(run / "metrics.jsonl", "r+") as stream:
        stream.write(text_before.replace('"chi2":1.1', '"chi2":1.9').replace('"chi2":1.3', '"chi2":1.8'))
    os.utime(run / "metrics.jsonl", ns=(found.st_atime_ns, found.st_mtime_ns))
    update(index, places_in(folder))
    assert all_rows(index) == new_rows(folder)


def test_a_run_without_a_heartbeat_is_lost_when_somebody_asks(folder, index):
    def states():
        with index.reading() as connection:
            return dict(connection.execute(text("SELECT name, state FROM run_list")).fetchall())

    assert states()["stars"] == "running"
    start(make_run(folder, "old", 9), at=time.time() - 1000)
    update(index, places_in(folder))
    assert states() == {"quasars": "finished", "galaxies": "finished", "stars": "running", "old": LOST}


def test_a_trial_has_the_state_of_its_run_until_its_end_is_written(folder, index):
    def trials():
        update(index, places_in(folder))
        assert all_rows(index) == new_rows(folder)
        with index.reading() as connection:
            query = "SELECT trial, state, score, run IS NOT NULL FROM trial_list WHERE study = 'hunt' ORDER BY trial"
            return [tuple(row) for row in connection.execute(text(query))]

    study = make_study(folder)
    assert trials() == [(0, "finished", 0.5, True), (1, "pending", None, True), (2, "running", None, False)]
    start(study.trial(1))
    assert trials()[1] == (1, "running", None, True)
    write_once(study.trial(1).outcome, {"state": "pruned", "scores": [0.7]})
    assert trials()[1] == (1, "pruned", 0.7, True)
    shutil.rmtree(study.path)
    assert trials() == []


def test_a_damaged_run_hides_no_other_one(folder, index):
    run = RunDir(next((folder / "runs" / "quasars").glob("2*")))
    run.job.write_bytes(b"\xff{")
    run.validation.parent.mkdir(exist_ok=True)
    run.validation.write_text('{"tasks": [1], "gates": {"a": 1}}')
    run.metrics.write_bytes(b'{"kind":"eval","step":1,"time":1e9,"attempt":1,"loss":NaN,"x\\u0000y":1}\n\x00\n')
    update(index, places_in(folder))
    rebuild(index, places_in(folder))
    with index.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM run_list")).scalar() == 4


def test_an_update_that_is_killed_is_finished_by_the_next_one(folder, database, monkeypatch):
    monkeypatch.setattr(update_module, "_UNITS_TOGETHER", 1)
    for number in range(5, 15):
        finished(folder, "many", number, 1.0)
    child = os.fork()
    if not child:  # pragma: no cover
        update(database, places_in(folder))
        os._exit(0)

    def has_begun():
        with contextlib.suppress(SiteError), database.reading() as connection:
            return connection.execute(text("SELECT count(*) FROM units")).scalar() > 2
        return False

    wait_until(has_begun)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    update(database, places_in(folder))
    assert all_rows(database) == new_rows(folder)


def test_runs_that_write_meanwhile_do_no_harm(folder, index):
    child = os.fork()
    if not child:  # pragma: no cover
        writer = start(make_run(folder, "busy", 8))
        for step in range(1, 400):
            evaluate(writer, step, loss=1 / step)
        os._exit(0)
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        update(index, places_in(folder))
    update(index, places_in(folder))
    assert all_rows(index) == new_rows(folder)


def test_a_locked_index_costs_one_line_and_no_other_command_notices(folder, index, monkeypatch, capsys):
    monkeypatch.setattr(database_module, "_LOCKED_S", 0.1)
    holder = sqlite3.connect(index.file, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert main(["index", "update"]) == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["list"]) == 0
    assert "quasars" in capsys.readouterr().out
    holder.close()
    finished(folder, "later", 6, 1.0)
    assert main(["index", "update"]) == 0
    assert all_rows(index) == new_rows(folder)


def test_a_damaged_index_says_so_and_is_made_again(folder, index, capsys):
    before = all_rows(index)
    index.file.write_bytes(b"this is no index" * 1000)
    assert main(["index", "update"]) == 3
    assert "hpctrain index rebuild" in capsys.readouterr().err
    assert main(["index", "rebuild"]) == 0
    assert all_rows(index) == before
    assert main(["index", "status", "--json"]) == 0
    assert list(folder.glob("index.sqlite.damaged-1"))


def test_a_folder_that_is_not_mounted_is_not_forgotten(folder, index):
    (folder / "runs").rename(folder / "away")
    with pytest.raises(SiteError, match="is gone, and the index knows 4 entries"):
        update(index, places_in(folder))
    (folder / "away").rename(folder / "runs")
    update(index, places_in(folder))
    shutil.rmtree(folder / "runs")
    assert rebuild(index, places_in(folder)).read == 3


def test_a_registry_that_cannot_be_read_hides_no_run_and_is_not_forgotten(folder, index, capsys):
    (folder / "registry" / "models").rename(folder / "models")
    (folder / "registry" / "models").symlink_to("models")  # a loop, which nobody can read, not even root
    finished(folder, "later", 6, 1.0)
    assert main(["list", "--where", "chi2 = 1 and name = later"]) == 0
    said = capsys.readouterr()
    assert "later" in said.out
    assert "registry/models: cannot be read" in said.err
    with index.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM version_list")).scalar() == 1


def test_an_index_that_cannot_be_made_says_where_else(folder, capsys):
    assert main(["index", "update", "--index", str(folder / "missing" / "index.sqlite")]) == 3
    assert "name another place with --index" in capsys.readouterr().err
    (folder / "empty.sqlite").touch()
    assert main(["sql", "--index", "empty.sqlite", "SELECT 1"]) == 0
    assert main(["list", "--where", "step > 1", "--no-update", "--index", "empty.sqlite"]) == 3
    assert "make them with 'hpctrain index update'" in capsys.readouterr().err


def test_the_migrations_make_the_tables_of_the_code(index):
    config = Config()
    config.set_main_option("script_location", str(schema._MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD
    with index.writing() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []


def test_views_of_an_older_version_are_replaced_and_a_newer_index_is_refused(folder, index):
    with index.writing() as connection, connection.begin():
        connection.execute(text("DROP VIEW run_gates"))
        connection.execute(text("CREATE VIEW forgotten AS SELECT 1"))
        connection.execute(text("INSERT INTO about VALUES ('forgotten', 'view')"))
        connection.execute(text("UPDATE about SET value = 'old' WHERE name = 'views'"))
    update(index, places_in(folder))
    with index.reading() as connection:
        names = {row[0] for row in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'view'"))}
    assert "run_gates" in names
    assert "forgotten" not in names
    with index.writing() as connection, connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SiteError, match="newer hpctrain"):
        update(index, places_in(folder))
