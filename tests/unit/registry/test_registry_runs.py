"""What the registry means for runs: deleting them, recording what is done to them, and which version gets an object."""

from __future__ import annotations

import json

import numpy as np
import pytest
from registered_runs import GATE, finished_run

from hpctrain.cli import run_command
from hpctrain.registry.add import add_run
from hpctrain.registry.folder import registry_at
from hpctrain.registry.route import goes_to_b
from hpctrain.samples.hashing import hash_ids, unit_interval
from hpctrain.trail.chain import FILE
from hpctrain.trail.note import note


def test_a_run_of_a_registered_version_is_kept_and_another_one_is_deleted(registry, runs, capsys):
    kept, gone = finished_run(runs, 1.0), finished_run(runs, 2.0)
    add_run(kept, "photoz", registry)
    where = ["--runs-dir", str(runs), "--registry", str(registry.path)]
    assert run_command("delete", [kept.run_id, "--yes", *where]) == 2
    assert "photoz:1 of" in capsys.readouterr().err
    assert kept.model.is_dir()
    assert run_command("delete", ["photoz", "--yes", *where]) == 2
    assert "several runs have this name" in capsys.readouterr().err
    assert run_command("delete", [gone.run_id, *where]) == 2
    assert "--yes: is needed" in capsys.readouterr().err
    assert run_command("delete", [gone.run_id, "--yes", *where]) == 0
    assert [path.name for path in gone.path.parent.iterdir()] == [kept.run_id]
    last = json.loads((registry.path / FILE).read_text().splitlines()[-1])
    assert (last["action"], last["subject"]) == ("delete", str(gone.path))


def test_what_is_done_to_runs_is_recorded_only_beside_a_registry(registry, runs, tmp_path, capsys):
    run = finished_run(runs)
    note("cancel", run.path)
    foreign = run.path.parent / "registry"
    foreign.mkdir()
    (foreign / "setup.py").touch()
    note("cancel", run.path)
    assert not registry.path.exists()
    registry.path.mkdir()
    assert registry_at(None, runs).path == registry.path
    fold = runs / "study" / "20261126-120000-abcd" / "folds" / "3"
    note("cancel", fold, job_id="7")
    assert json.loads((registry.path / FILE).read_text())["details"] == {"job_id": "7"}
    assert [path.name for path in foreign.iterdir()] == ["setup.py"]
    where = ["--registry", str(registry.path)]
    assert run_command("audit-trail", ["show", *where]) == 0
    assert f"cancel {fold}" in capsys.readouterr().out
    assert run_command("audit-trail", ["verify", *where]) == 0
    assert run_command("audit-trail", ["verify", "--head", "0" * 64, *where]) == 5


def test_entries_that_were_taken_away_from_the_end_are_missed_by_a_head_in_a_file(registry, runs, tmp_path, capsys):
    registry.path.mkdir()
    kept, where = tmp_path / "head.json", ["--registry", str(registry.path)]
    assert run_command("audit-trail", ["head", *where]) == 5
    note("submit", runs / "a/1")
    note("cancel", runs / "a/1")
    assert run_command("audit-trail", ["head", "--out", str(kept), *where]) == 0
    assert run_command("audit-trail", ["head", "--out", str(kept), *where]) == 2
    note("submit", runs / "a/2")
    assert run_command("audit-trail", ["verify", "--head", str(kept), *where]) == 0
    trail = registry.path / FILE
    trail.write_bytes(trail.read_bytes().splitlines(keepends=True)[0])
    assert run_command("audit-trail", ["verify", *where]) == 0
    capsys.readouterr()
    assert run_command("audit-trail", ["verify", "--head", str(kept), *where]) == 5
    assert "entries were taken away or changed" in capsys.readouterr().err
    kept.write_text("[]")
    assert run_command("audit-trail", ["verify", "--head", str(kept), *where]) == 2


def test_a_registry_of_the_environment_records_runs_that_lie_elsewhere(registry, runs, tmp_path, monkeypatch):
    registry.path.mkdir()
    monkeypatch.setenv("HPCTRAIN_REGISTRY", str(registry.path))
    note("submit", "/elsewhere/runs/photoz/1")
    monkeypatch.chdir(tmp_path)
    note("export", "runs/photoz/1")
    subjects = [json.loads(line)["subject"] for line in (registry.path / FILE).read_text().splitlines()]
    assert subjects == ["/elsewhere/runs/photoz/1", str(tmp_path / "runs/photoz/1")]


def test_a_share_is_deterministic_grows_only_and_is_independent_of_splits_and_models():
    ids = np.arange(20_000, dtype=np.int64)
    small, large = goes_to_b(ids, 0.1, "photoz"), goes_to_b(ids, 0.3, "photoz")
    assert abs(small.mean() - 0.1) < 0.01
    assert not np.any(small & ~large)
    assert np.array_equal(goes_to_b(ids[::-1], 0.1, "photoz"), small[::-1])
    assert goes_to_b(ids[:7], 0.1, "photoz").tolist() == small[:7].tolist()
    for other in (goes_to_b(ids, 0.1, "stars"), unit_interval(hash_ids(ids, "")) < 0.1):
        assert abs((small & other).mean() - 0.01) < 0.005
    assert not goes_to_b(ids, 0.0, "photoz").any()
    assert goes_to_b(ids, 1.0, "photoz").all()


def test_the_command_names_the_version_of_each_object(registry, runs, capsys):
    where = ["--registry", str(registry.path), "--runs-dir", str(runs)]
    for weight, alias in ((1.0, "champion"), (2.0, "candidate")):
        run = finished_run(runs, weight, [GATE])
        assert run_command("registry", ["add", run.run_id, "--name", "photoz", "--alias", alias, *where]) == 0
    capsys.readouterr()
    ids = [str(number) for number in range(100)]
    assert run_command("registry", ["route", "photoz", *ids, "--share", "0.5", "--json", *where]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found.values()) == {"photoz:1", "photoz:2"}
    with pytest.raises(SystemExit):
        run_command("registry", ["route", "photoz", "1", "--share", "2", *where])
