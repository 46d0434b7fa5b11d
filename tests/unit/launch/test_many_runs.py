"""Folders of many runs and long logs: how often the disk is asked, and that the answers stay right."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpctrain.cli import main
from hpctrain.distributed.rendezvous import Rendezvous
from hpctrain.distributed.stop import StopRequest
from hpctrain.distributed.world import World
from hpctrain.files import clear_old_leftovers
from hpctrain.launch.history import EndedAttempt, append_history
from hpctrain.launch.logs import log_files, text_of
from hpctrain.launch.runs import find_run
from hpctrain.rundir import RunDir, all_runs

_opened: list[str] | None = None
_is_hooked = False


def _note(event: str, arguments: tuple[object, ...]) -> None:
    is_look = event in ("open", "os.scandir", "os.listdir")
    if _opened is not None and is_look and isinstance(arguments[0], str | os.PathLike):
        _opened.append(os.fspath(arguments[0]))


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Return the names of all files and folders that this process opens or lists meanwhile, as Python reports them."""
    global _opened, _is_hooked
    if not _is_hooked:  # a hook stays for ever
        sys.addaudithook(_note)
        _is_hooked = True
    _opened = []
    yield _opened
    _opened = None


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two hundred runs of ten names; the number is a part of the id."""
    folder = tmp_path_factory.mktemp("many") / "runs"
    for number in range(200):
        path = folder / f"name-{number % 10}" / f"20260101-{number:06d}-aaaa"
        path.mkdir(parents=True)
        (path / "job.json").write_text(f'{{"submissions": [{{"job_id": "job-{number}"}}]}}')
    return folder


def folders_in(runs: Path, opened: list[str]) -> set[str]:
    return {name for path in opened for name in Path(path).parts[len(runs.parts) + 1 :][:1] if str(runs) in path}


def test_a_list_of_twenty_of_two_hundred_runs_looks_into_twenty(runs, opened, capsys):
    assert main(["list", "--runs-dir", str(runs)]) == 0
    assert capsys.readouterr().out.count("not submitted") + len(folders_in(runs, opened)) >= 20
    assert folders_in(runs, opened) == {f"20260101-{number:06d}-aaaa" for number in range(180, 200)}


def test_a_list_of_one_name_looks_into_runs_of_this_name_alone(runs, opened, capsys):
    assert main(["list", "--runs-dir", str(runs), "--name", "name-[37]", "--last", "3"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["name-7", "name-3", "name-7"]
    assert len(folders_in(runs, opened)) == 3


def test_the_newest_run_and_one_by_its_id_are_found_without_a_look_into_any(runs, opened):
    assert find_run(None, runs).run_id == "20260101-000199-aaaa"
    assert find_run("name-3", runs).run_id == "20260101-000193-aaaa"
    assert find_run("20260101-000005-aaaa", runs).name == "name-5"
    assert folders_in(runs, opened) == set()


def test_a_search_for_a_job_ends_with_the_run_that_has_it(runs, opened):
    assert find_run("job-190", runs).run_id == "20260101-000190-aaaa"
    assert len(folders_in(runs, opened)) == 10


def test_links_count_once_and_what_is_no_run_does_not_count(tmp_path):
    runs = tmp_path / "runs"
    old, new = (RunDir.create(runs, "stars", f"2026010{day}-000000-aaaa") for day in (1, 2))
    for run in (old, new):
        run.profile.write_text("name: stars\n")
    elsewhere = RunDir.create(tmp_path / "disk", "stars", "20260103-000000-aaaa")
    elsewhere.profile.write_text("name: stars\n")
    (runs / "stars/latest").symlink_to(new.run_id)
    (runs / "stars/moved").symlink_to(elsewhere.path)
    (runs / "stars/gone").symlink_to("nowhere")
    (runs / "stars/notes.txt").write_text("no run")
    (runs / "stars/empty").mkdir()
    (runs / "file").write_text("no folder")
    (runs / "others").symlink_to(tmp_path / "disk/stars")
    linked = RunDir(runs / "others" / elsewhere.run_id)
    found = [run.path for run in all_runs(runs)]
    assert found[2:] == [new.path, old.path]
    assert set(found[:2]) == {elsewhere.path, linked.path}
    assert all_runs(tmp_path / "none") == []


def test_a_run_that_changes_shows_so_in_the_next_list(tmp_path, capsys):
    run = RunDir.create(tmp_path / "runs", "stars")
    run.profile.write_text("name: stars\n")
    for followed, state in (("requeued", "not submitted"), ("failed", "failed"), ("finished", "finished")):
        append_history(run, EndedAttempt(time.time(), "7", 0, 6, "none", "none", followed))
        main(["list", "--runs-dir", str(tmp_path / "runs")])
        assert state in capsys.readouterr().out


LOGS = ["", "\n", "one", "one\n", "one\ntwo", "\n\n\n", "x" * 70_000 + "\nlast\n", "é\n" * 70_000, "no end " * 30_000]


@pytest.mark.parametrize("text", LOGS, ids=range(len(LOGS)))
def test_the_last_lines_of_a_log_are_its_last_lines(tmp_path, text):
    run = RunDir.create(tmp_path / "runs", "stars")
    (run.logs / "job-7.0-rank-0000.log").write_text(text)
    lines = text.splitlines(keepends=True)
    for number in (0, 1, 2, 3, 40_000, 1_000_000):
        assert "".join(text_of(run, 0, None, number)) == "".join(lines[max(0, len(lines) - number) :][: len(lines)])


def test_logs_are_sorted_by_the_first_attempt_of_their_job_and_then_by_number(tmp_path):
    run = RunDir.create(tmp_path / "runs", "stars")
    written = {"job-9.0": 100, "job-9.2": 700, "job-9.10": 50, "job-7_1.0": 300, "job-7_1.1": 200, "job-8.3": 400}
    for name, at in written.items():
        path = run.logs / f"{name}-rank-0000.log"
        path.touch()
        os.utime(path, (at, at))
    assert [path.name.partition("-rank")[0] for path in log_files(run, 0)] == [
        "job-9.0", "job-9.2", "job-9.10", "job-7_1.0", "job-7_1.1", "job-8.3",
    ]  # fmt: skip


def test_leftovers_of_writers_killed_long_ago_go_and_young_files_stay(tmp_path):
    old, young, other = (tmp_path / f".rank-000{rank}.json.{'0' * 16}.tmp" for rank in (1, 2, 3))
    kept = [young, tmp_path / "rank-0001.json", other.with_suffix(".kept")]
    for path in (old, *kept):
        path.touch()
    os.utime(old, (1.0, 1.0))
    os.utime(kept[2], (1.0, 1.0))
    clear_old_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == set(kept)


def test_of_many_ranks_that_wait_for_each_other_each_looks_rarely(tmp_path, opened):
    world = World(rank=1, world_size=4096, local_rank=1, local_world_size=2, num_nodes=1)
    run = RunDir.create(tmp_path / "runs", "stars")
    with Rendezvous(world, run, StopRequest(), timeout_s=60.0) as meeting:
        opened.clear()
        time.sleep(1.0)  # four times as long as two ranks would wait
        assert meeting.lost_rank() is None
    assert 1 <= sum("rendezvous-" in path for path in opened) <= 4
