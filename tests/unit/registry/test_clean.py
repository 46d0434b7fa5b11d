"""``hpctrain clean`` removes what nobody needs, and nothing that an active run, a profile or a version needs."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from registered_runs import finished_run

from hpctrain.checkpoint.whole import checkpoint_path, manifest_text
from hpctrain.cli import run_command
from hpctrain.launch.history import EndedAttempt, append_history
from hpctrain.registry.add import add_run
from hpctrain.rundir import RunDir, file_digest, write_json
from hpctrain.trail.chain import FILE


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def checkpoint(run: RunDir, step: int, best: int) -> None:
    folder = checkpoint_path(run, step)
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"progress": {"step": step, "best_step": best}}))
    file = folder / "state.json"
    files = {file.name: {"size": file.stat().st_size, "sha256": file_digest(file)}}
    (folder / "MANIFEST.json").write_text(manifest_text(1, step, files))


def a_run(runs: Path, state: str = "finished", steps: tuple[int, ...] = (10, 20, 30, 40), every: int = 30) -> RunDir:
    run = finished_run(runs, len(list(runs.glob("*/*"))) + 1.0)
    run.profile.write_text(f"name: photoz\ncheckpoint: {{keep_every_steps: {every}}}\n")
    run.make_folders()
    for step in steps:
        checkpoint(run, step, best=20)
    beat = {"rank": 0, "attempt": 1, "state": state, "time": time.time(), "interval_s": 5.0, "step": 40, "host": "node"}
    write_json(run.heartbeat(0), beat)
    if state != "running":
        append_history(run, EndedAttempt(time.time(), "1", 0, 0 if state == "finished" else 4, "none", "none", state))
    return run


def steps_of(run: RunDir) -> list[int]:
    return sorted(int(path.name[5:]) for path in run.checkpoints.glob("step-*"))


def clean(*words: str, runs: Path) -> int:
    return run_command("clean", [*words, "--runs-dir", str(runs)])


def test_the_newest_the_best_and_the_milestones_stay_and_the_trail_says_what_went(runs, registry, capsys):
    registry.path.mkdir()
    run = a_run(runs)
    (run.checkpoints / "rejected-step-00000035").mkdir()
    run.superseded_metrics.write_text("{}\n" * 1000)
    run.tensorboard.mkdir()
    assert clean("--dry-run", runs=runs) == 0
    said = capsys.readouterr().out
    assert "checkpoints: of finished runs" in said
    assert "superseded: records of steps" in said
    assert steps_of(run) == [10, 20, 30, 40]
    assert clean(runs=runs) == 2, "nobody can be asked"
    assert clean("--yes", runs=runs) == 0
    assert steps_of(run) == [20, 30, 40]
    assert not run.superseded_metrics.exists()
    assert not list(run.checkpoints.glob("rejected-*"))
    assert run.tensorboard.is_dir(), "goes only if somebody names it"
    entries = [json.loads(line) for line in (registry.path / FILE).read_text().splitlines()]
    assert {entry["details"]["what"] for entry in entries} == {"checkpoints", "rejected", "superseded"}
    assert {(entry["action"], entry["subject"]) for entry in entries} == {("clean", str(run.path))}


def test_a_run_that_somebody_needs_keeps_its_checkpoints(runs, registry, tmp_path, capsys):
    registered, started_from, named, free = (a_run(runs) for _ in range(4))
    add_run(registered, "photoz", registry)
    other = a_run(runs, steps=(40,))
    other.profile.write_text(other.profile.read_text() + f"train: {{seed: 1}}\n# {started_from.run_id}\n")
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "next.yaml").write_text(f"train:\n  init_from: runs/photoz/{named.run_id}/model\n")
    task = RunDir(runs / "photoz" / f"{named.run_id}-12")
    shutil.copytree(free.path, task.path)
    (tmp_path / "study.yaml").write_text(f"start: {task.path}/checkpoints/step-00000010\n")
    trial = RunDir(runs / "study" / "20261126-120000-abcd" / "0")
    shutil.copytree(free.path, trial.path)
    (trial.path.parent / "study.yaml").touch()
    everything = (registered, started_from, named, free, task, trial)
    assert clean("--yes", *(str(run.path) for run in everything), runs=runs) == 0
    assert [steps_of(run) for run in (registered, started_from, named, task, trial)] == [[10, 20, 30, 40]] * 5
    assert steps_of(free) == [20, 30, 40]
    said = capsys.readouterr().out
    for why in (
        "photoz:1 of the registry",
        f"{other.run_id}/profile.yaml names the run",
        "next.yaml names the run",
        "the study",
    ):
        assert why in said


def test_an_active_run_is_not_touched_and_a_failed_one_goes_only_by_name(runs, capsys):
    active, failed = a_run(runs, "running"), a_run(runs, "failed")
    assert clean("--yes", runs=runs) == 0
    said = capsys.readouterr().out
    assert "is running" in said
    assert "with --what failed" in said
    assert failed.path.is_dir()
    assert clean("--yes", "--what", "failed", runs=runs) == 0
    assert not failed.path.exists()
    assert steps_of(active) == [10, 20, 30, 40]


def test_older_checkpoints_stay_if_the_newest_is_damaged(runs, capsys):
    run = a_run(runs)
    (checkpoint_path(run, 40) / "state.json").write_text(json.dumps({"progress": {"best_step": 30}, "more": 1}))
    assert clean("--yes", runs=runs) == 0
    assert steps_of(run) == [10, 20, 30, 40]
    assert "its newest checkpoint is damaged" in capsys.readouterr().err


def test_results_of_a_stage_stay_while_a_time_through_the_pipeline_names_them(runs, tmp_path, capsys):
    weekly = tmp_path / "pipelines" / "weekly"
    for key, age_s in (("a" * 16, 30), ("b" * 16, 20), ("c" * 16, 10)):
        result = weekly / "store" / "ingest" / key / "stage.json"
        write_json_in(result, {"key": key, "ended_at": time.time() - age_s})
    (weekly / "store" / "ingest" / f"{'d' * 16}.work").mkdir()
    write_json_in(weekly / "1" / "ingest" / "state.json", {"state": "done", "key": "a" * 16})
    (weekly / "1" / "pipeline.yaml").write_text("name: weekly\n")
    runs.mkdir()
    assert clean("--yes", "--what", "store,work", runs=runs) == 0
    assert sorted(path.name[0] for path in (weekly / "store" / "ingest").iterdir()) == ["a", "c"]


def write_json_in(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True)
    write_json(path, value)
