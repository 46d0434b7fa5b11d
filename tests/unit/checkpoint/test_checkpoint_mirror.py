"""A mirror holds whole checkpoints only, comes back byte by byte, and costs a run nothing when it fails."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest
import torch
from processes import wait_until

from hpctrain.checkpoint.mirror import Mirror, describe, pull, records_of
from hpctrain.checkpoint.store import read_checkpoint, write_checkpoint
from hpctrain.checkpoint.uploader import Uploader
from hpctrain.checkpoint.whole import MANIFEST, checkpoint_path, list_checkpoints, newest_whole
from hpctrain.cli import main
from hpctrain.errors import CheckpointError
from hpctrain.rundir import RunDir, write_json

STORES = ("memory", "file")


def save(run: RunDir, step: int) -> None:
    write_checkpoint(run, step, {"model": {"w": torch.full((300,), float(step))}}, {"step_seen": step}, 1)


@pytest.fixture
def run(tmp_path) -> RunDir:
    run = RunDir.create(tmp_path / "runs", "vae", "20270115-080000-aaaa")
    run.profile.write_text("name: vae\n")
    run.metrics.write_text('{"kind": "train", "step": 10, "loss": 1.0}\n')
    (run.attempts / "0001.json").write_text('{"attempt": 1}')
    run.heartbeat(0).write_text("{}")
    (run.logs / "job-1.0-rank-0000.log").write_text("hello\n")
    for step in (10, 20):
        save(run, step)
    return run


@pytest.fixture(params=STORES)
def place(request, tmp_path) -> str:
    """The value of ``checkpoint.mirror``: an object store in memory, or a folder of a file system."""
    return f"memory://{uuid.uuid4().hex}/runs" if request.param == "memory" else str(tmp_path / "mirror")


def damage(place: str, run: RunDir, name: str) -> None:
    system, root = fsspec.core.url_to_fs(f"{place}/{run.name}/{run.run_id}/{name}")
    content = bytearray(system.cat_file(root))
    content[-1] ^= 1
    system.pipe_file(root, bytes(content))


def uploaded(run: RunDir, place: str, *steps: int, attempt: int = 1) -> list[tuple[str, int]]:
    told: list[tuple[str, int]] = []
    uploader = Uploader(run, Mirror.of(run, place), attempt, lambda event, step: told.append((event.name, step)))
    for step in steps:
        uploader.offer(step)
    assert uploader.finish(60) is None
    return told


def test_a_run_comes_back_to_a_machine_that_has_nothing_else(run, place, tmp_path):
    uploaded(run, place, 20)
    other = RunDir(tmp_path / "elsewhere" / run.name / run.run_id)
    pulled = pull(Mirror.of(run, place), other)
    assert (pulled.step, pulled.rejected) == (20, [])
    assert newest_whole(other) == (20, [])
    assert read_checkpoint(checkpoint_path(other, 20))[1]["step_seen"] == 20
    names = sorted(path.relative_to(other.path).as_posix() for path in records_of(other))
    assert names == ["attempts/0001.json", "logs/job-1.0-rank-0000.log", "metrics.jsonl", "profile.yaml"]
    assert other.metrics.read_bytes() == run.metrics.read_bytes()


def test_a_damaged_checkpoint_of_the_mirror_gives_way_to_an_older_one(run, place, tmp_path):
    mirror = Mirror.of(run, place)
    for step in (10, 20):
        mirror.push_checkpoint(checkpoint_path(run, step))
    damage(place, run, "checkpoints/step-00000020/model.safetensors")
    other = RunDir(tmp_path / "elsewhere" / run.name / run.run_id)
    pulled = pull(mirror, other)
    assert pulled.step == 10
    (rejected,) = pulled.rejected
    assert "SHA-256" in rejected.reason
    assert "step-00000020" in str(rejected.path)


def test_a_checkpoint_without_its_manifest_does_not_exist_yet(run, place):
    mirror = Mirror.of(run, place)
    for step in (10, 20):
        mirror.push_checkpoint(checkpoint_path(run, step))
    system, root = fsspec.core.url_to_fs(f"{place}/{run.name}/{run.run_id}")
    system.rm(f"{root}/checkpoints/step-00000020/{MANIFEST}")
    assert mirror.steps() == [10]


def test_a_run_directory_that_is_as_new_stays_as_it_is(run, place):
    uploaded(run, place, 20)
    run.metrics.write_text("newer\n")
    assert pull(Mirror.of(run, place), run) == type(pull(Mirror.of(run, place), run))(None, 0, [])
    assert run.metrics.read_text() == "newer\n"


def test_the_mirror_keeps_what_retention_keeps(run, place):
    mirror = Mirror.of(run, place)
    mirror.push_checkpoint(checkpoint_path(run, 10))
    checkpoint_path(run, 10).rename(run.checkpoints / ".gone")
    save(run, 30)
    uploaded(run, place, 20, 30)
    assert set(mirror.steps()) <= {step for step, _ in list_checkpoints(run)}
    assert 30 in mirror.steps()


def test_an_attempt_that_was_replaced_uploads_nothing(run, place):
    write_json(run.attempts / "0002.json", {"attempt": 2})
    uploaded(run, place, 20, attempt=1)
    assert not Mirror.of(run, place).exists()


def test_a_store_that_fails_is_reported_and_tried_again_with_the_next_checkpoint(run, tmp_path):
    place = tmp_path / "mirror"
    place.write_text("a file where the folder should be")
    told: list[tuple[str, int, str | None]] = []

    def report(event, step):
        told.append((event.name, step, getattr(event, "error", None)))

    uploader = Uploader(run, Mirror.of(run, str(place)), 1, report)
    uploader.offer(10)
    wait_until(lambda: uploader._outcomes)
    place.unlink()
    uploader.offer(20)
    assert uploader.finish(60) is None
    assert told[0][:2] == ("mirror_failed", 10)
    assert Mirror.of(run, str(place)).steps() == [20]


def test_the_end_of_an_attempt_waits_no_longer_than_it_may(run, tmp_path):
    place = tmp_path / "mirror"
    place.write_text("a file where the folder should be")
    uploader = Uploader(run, Mirror.of(run, str(place)), 1, lambda event, step: None)
    uploader.offer(20)
    assert "not complete" in uploader.finish(60)


def test_secrets_of_an_address_are_not_shown():
    shown = describe(OSError("cannot reach s3://key:secret@host/bucket?signature=abc\nmore"))
    assert "secret" not in shown
    assert "abc" not in shown


def test_pull_says_what_it_brought_and_how_to_go_on(run, tmp_path, capsys, monkeypatch):
    place = f"file://{tmp_path}/mirror"
    uploaded(run, place, 20)
    monkeypatch.chdir(tmp_path)
    code = main(["pull", f"{place}/{run.name}/{run.run_id}", "--runs-dir", "back"])
    said = capsys.readouterr().out
    assert code == 0
    assert "the checkpoint of step 20 and 4 files" in said
    assert "hpc-submit --resume" in said
    assert newest_whole(RunDir(Path("back") / run.name / run.run_id)) == (20, [])


def test_pull_from_where_nothing_is_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["pull", f"file://{tmp_path}/none/vae/1"]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_mirror_whose_package_is_missing_is_an_error_with_the_remedy():
    with pytest.raises(CheckpointError, match="gcsfs"):
        Mirror("gs://bucket/runs/vae/1")
