"""The copy of a study in a database: each trial once, whoever writes, and no harm from a database that fails."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from mlflow_lab import Postgres, cache_folder, postgres_programs
from study_folders import curve_towards, end_trial, fill
from study_folders import make_study as make_folder

from hpctrain.cli import main
from hpctrain.search import mirror as module
from hpctrain.search.ask import ask
from hpctrain.search.mirror import NUMBER, copy_trials, mirror, name_of
from hpctrain.search.referee import StudyReferee
from hpctrain.search.trials import read_trials

COMPLETE, FAIL = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL
PRUNED, RUNNING = optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.RUNNING


@pytest.fixture(autouse=True)
def nothing_has_failed_yet(monkeypatch):
    monkeypatch.setattr(module, "_asleep_until", {})


@pytest.fixture
def sqlite(tmp_path):
    return f"sqlite:///{tmp_path / 'copy.db'}"


@pytest.fixture
def postgresql():
    """The URL of an empty data base of a real PostgreSQL."""
    if postgres_programs() is None:
        pytest.skip("no PostgreSQL: apt-get install postgresql")
    psycopg = pytest.importorskip("psycopg")
    server = Postgres(cache_folder() / "postgres")
    plain = f"postgresql://lab@127.0.0.1:{server.port}/postgres"
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("CREATE DATABASE studies")
    yield f"postgresql+psycopg://lab@127.0.0.1:{server.port}/studies"
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("DROP DATABASE studies WITH (FORCE)")
    server.stop()


def entries(study, url):
    """Return Optuna's trials by our number; fail if a trial is there twice."""
    storage = optuna.storages.RDBStorage(url)
    found = optuna.load_study(study_name=name_of(study), storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    numbers = [trial.user_attrs[NUMBER] for trial in found]
    assert len(set(numbers)) == len(numbers)
    return dict(zip(numbers, found, strict=True))


def test_all_that_is_known_of_ended_trials_is_copied_once(tmp_path, sqlite, capsys):
    study = make_folder(tmp_path, trials=12)
    fill(study, 10)
    for changed in (10, 0):
        assert main(["search", "export", str(study.path), "--to", sqlite]) == 0
        assert f"{changed} trials are new or have changed in {sqlite}" in capsys.readouterr().out
    found = entries(study, sqlite)
    for trial in read_trials(study)[:10]:
        entry = found[trial.number]
        assert entry.params == trial.values
        assert entry.values == (trial.scores if trial.state == "finished" else None)
        assert entry.state == {"finished": COMPLETE, "pruned": PRUNED}.get(trial.state, FAIL)
        assert list(entry.intermediate_values) == [step for step, _ in trial.evaluations]
        assert entry.user_attrs["run"] == str(study.trial(trial.number).path)
    assert len(found) == 10


def test_a_trial_appears_when_it_is_asked_for_and_grows_with_its_evaluations(make_study, sqlite):
    study = make_study(storage=sqlite)
    trial = study.trial(0)
    assert ask(trial, "7_0")
    assert entries(study, sqlite)[0].state == RUNNING
    referee = StudyReferee(trial)
    for step, loss in ((10, 0.5), (20, 0.25)):
        assert referee(step, {"loss": loss}) is False
    assert entries(study, sqlite)[0].intermediate_values == {1: 0.5, 2: 0.25}
    end_trial(study, 0, "finished", read_trials(study)[0].values, [0.2], evaluations=curve_towards(0.2, 4))
    mirror(study, study.section(), read_trials(study))
    entry = entries(study, sqlite)[0]
    assert (entry.state, entry.value, len(entry.intermediate_values)) == (COMPLETE, 0.2, 4)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_writers_at_the_same_moment_make_no_trial_twice(tmp_path, kind, request):
    url = request.getfixturevalue(kind)
    study = make_folder(tmp_path, trials=8)
    copy_trials(study, study.section(), [], url)
    fill(study, 8)
    trials = read_trials(study)
    together = threading.Barrier(3)

    def write(_):
        together.wait()
        return copy_trials(study, study.section(), trials, url)

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(write, range(3))) == 8
    found = entries(study, url)
    assert sorted(found) == list(range(8))
    assert found[0].values == trials[0].scores


def test_a_server_that_refuses_costs_one_line_without_the_password(tmp_path, capfd):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"postgresql+psycopg://me:s%40cret@127.0.0.1:{port}/studies"
    study = make_folder(tmp_path, storage=url)
    fill(study, 2)
    for _ in range(2):
        mirror(study, study.section(), read_trials(study))
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "was not brought up to date" in said
    assert "the study goes on" in said
    assert "cret" not in said
    assert main(["search", "export", str(study.path)]) != 0
    said = capfd.readouterr().err
    assert f"postgresql+psycopg://127.0.0.1:{port}/studies" in said
    assert "cret" not in said


@pytest.mark.slow
def test_a_server_that_never_answers_is_left_alone(tmp_path, capfd):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        study = make_folder(tmp_path, storage=f"postgresql+psycopg://127.0.0.1:{silent.getsockname()[1]}/studies")
        fill(study, 1)
        mirror(study, study.section(), read_trials(study))
    assert "the study goes on" in capfd.readouterr().err


def test_a_driver_that_is_missing_is_named(tmp_path, capfd):
    study = make_folder(tmp_path, storage="oracle+cx_Oracle://me:secret@db/x")
    mirror(study, study.section(), [])
    said = capfd.readouterr().err
    assert "cx_Oracle" in said
    assert "secret" not in said
