"""Copies on the node's disk: whole or not there, gone on with, found again, verified, or clearly refused."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import zlib
from types import SimpleNamespace

import pytest

import hpctrain.samples.place as place_module
import hpctrain.samples.stage as stage_module
from hpctrain.errors import DataError, SiteError
from hpctrain.samples.activity import Activity, WorkCancelledError
from hpctrain.samples.sources import LocalSource, find_sources
from hpctrain.samples.stage import stage

BLOCK = 4096


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    for module in (stage_module, place_module):
        monkeypatch.setattr(module, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(place_module, "KEEP_FREE_BYTES", 0)


@pytest.fixture
def original(tmp_path):
    path = tmp_path / "shared" / "spectra.h5"
    path.parent.mkdir()
    path.write_bytes(os.urandom(10 * BLOCK + 123))
    return path


class CancelAfter(Activity):
    """Asks to stop after so many blocks."""

    def __init__(self, num_blocks):
        super().__init__()
        self._left = num_blocks

    def moved(self, done_bytes=0):
        if done_bytes:
            self._left -= 1
            if self._left == 0:
                self.cancelled.set()
        super().moved(done_bytes)


class CountingSource(LocalSource):
    """Notes where it is read from; calls `on_open` with the offset first."""

    def __init__(self, path, on_open=lambda offset: None):
        super().__init__(path)
        self.opened_at, self._on_open = [], on_open

    def open_at(self, offset):
        self._on_open(offset)
        self.opened_at.append(offset)
        return super().open_at(offset)


def staged(path, folder, activity=None):
    source = CountingSource(path)
    found = stage([source], folder, activity or Activity())
    return found, source


def half_copied(original, folder, blocks=4):
    with pytest.raises(WorkCancelledError):
        staged(original, folder, CancelAfter(blocks))
    return next(folder.rglob("part"))


def test_a_copy_has_the_bytes_of_the_original_and_is_not_made_twice(original, tmp_path):
    first, source = staged(original, tmp_path / "node")
    assert first.paths[0].read_bytes() == original.read_bytes()
    assert first.paths[0].name == "spectra.h5"
    assert (first.copied_bytes, source.opened_at) == (original.stat().st_size, [0])
    again, source = staged(original, tmp_path / "node")
    assert again.paths == first.paths
    assert (again.copied_bytes, source.opened_at) == (0, [])
    assert sorted(entry.name for entry in first.paths[0].parent.iterdir()) == ["lock", "record.json", "spectra.h5"]


def test_a_copy_has_the_time_of_the_original_as_its_hashes_are_worth_as_much(original, tmp_path):
    os.utime(original, ns=(10**18, 10**18 + 123_456_789))
    found, _ = staged(original, tmp_path / "node")
    assert found.paths[0].stat().st_mtime_ns == 10**18 + 123_456_789
    release(found.paths[0])
    again, source = staged(original, tmp_path / "node")
    assert again.paths == found.paths
    assert source.opened_at == []


def test_files_of_one_name_from_different_folders_stay_apart(original, tmp_path):
    other = tmp_path / "other" / "spectra.h5"
    other.parent.mkdir()
    other.write_bytes(b"x" * 5000)
    found = stage(find_sources([str(other), str(original)]), tmp_path / "node", Activity())
    assert [path.read_bytes() for path in found.paths] == [other.read_bytes(), original.read_bytes()]


def test_an_empty_file_is_copied_too(tmp_path):
    (tmp_path / "empty.h5").touch()
    found, _ = staged(tmp_path / "empty.h5", tmp_path / "node")
    assert found.paths[0].read_bytes() == b""


def test_a_copy_that_was_cut_off_goes_on_where_it_was(original, tmp_path):
    half_copied(original, tmp_path / "node", blocks=4)
    found, source = staged(original, tmp_path / "node")
    assert source.opened_at == [4 * BLOCK]
    assert found.paths[0].read_bytes() == original.read_bytes()


def test_a_half_copy_with_a_damaged_block_goes_on_before_it(original, tmp_path):
    part = half_copied(original, tmp_path / "node", blocks=4)
    with open(part, "r+b") as stream:
        stream.seek(2 * BLOCK + 7)
        stream.write(b"\0\0")
    found, source = staged(original, tmp_path / "node")
    assert source.opened_at == [2 * BLOCK]
    assert found.paths[0].read_bytes() == original.read_bytes()


def test_a_half_copy_that_lost_its_end_goes_on_where_its_bytes_end(original, tmp_path):
    part = half_copied(original, tmp_path / "node", blocks=4)
    os.truncate(part, BLOCK + 5)
    found, source = staged(original, tmp_path / "node")
    assert source.opened_at == [BLOCK]
    assert found.paths[0].read_bytes() == original.read_bytes()


def test_a_copy_whose_record_was_not_written_is_verified_and_not_copied_again(original, tmp_path):
    found, _ = staged(original, tmp_path / "node")
    folder = found.paths[0].parent
    release(found.paths[0])
    (folder / "record.json").unlink()
    blocks = [found.paths[0].read_bytes()[at : at + BLOCK] for at in range(0, original.stat().st_size, BLOCK)]
    (folder / "checks").write_bytes(b"".join(zlib.crc32(block).to_bytes(4, "little") for block in blocks))
    again, source = staged(original, tmp_path / "node")
    assert source.opened_at == []
    assert again.paths[0].read_bytes() == original.read_bytes()


def test_a_finished_copy_that_was_changed_is_made_again(original, tmp_path):
    found, _ = staged(original, tmp_path / "node")
    release(found.paths[0])
    os.truncate(found.paths[0], 100)
    again, _ = staged(original, tmp_path / "node")
    assert again.paths[0].read_bytes() == original.read_bytes()


def test_another_version_of_the_original_gets_a_copy_of_its_own(original, tmp_path):
    first, _ = staged(original, tmp_path / "node")
    before = first.paths[0].read_bytes()
    original.write_bytes(os.urandom(3 * BLOCK))
    second, _ = staged(original, tmp_path / "node")
    assert second.paths[0].read_bytes() == original.read_bytes()
    assert first.paths[0].read_bytes() == before  # a job that reads it goes on


def test_a_half_copy_of_another_version_is_never_gone_on_with(original, tmp_path):
    half_copied(original, tmp_path / "node")
    original.write_bytes(os.urandom(10 * BLOCK + 123))
    found, source = staged(original, tmp_path / "node")
    assert source.opened_at == [0]
    assert found.paths[0].read_bytes() == original.read_bytes()


def test_an_original_that_changes_while_it_is_copied_is_refused(original, tmp_path):
    def change(offset):
        os.utime(original, ns=(1, 1))

    with pytest.raises(DataError, match="changed while it was copied"):
        stage([CountingSource(original, change)], tmp_path / "node", Activity())
    assert not list((tmp_path / "node").rglob("record.json"))


def test_an_original_that_ends_early_is_said_with_the_byte(original, tmp_path):
    with pytest.raises(DataError, match=f"byte {3 * BLOCK} cannot be read: ends early"):
        stage([CountingSource(original, lambda _: os.truncate(original, 3 * BLOCK))], tmp_path / "node", Activity())


def test_a_block_that_reads_back_otherwise_is_copied_again(original, tmp_path, monkeypatch):
    damage_after_copying(monkeypatch, times=1)
    found, _ = staged(original, tmp_path / "node")
    assert found.paths[0].read_bytes() == original.read_bytes()


def test_a_disk_that_keeps_damaging_is_given_up_and_emptied(original, tmp_path, monkeypatch):
    damage_after_copying(monkeypatch, times=2)
    with pytest.raises(SiteError, match="damages what is written"):
        staged(original, tmp_path / "node")
    assert not list((tmp_path / "node").rglob("part"))


def damage_after_copying(monkeypatch, times):
    """Flip a byte of the copy at each of the first fsyncs."""
    sync, left = os.fsync, [times]

    def damage(descriptor):
        if left[0] and os.fstat(descriptor).st_size > 5 * BLOCK:
            left[0] -= 1
            byte = os.pread(descriptor, 1, 5 * BLOCK)[0]
            os.pwrite(descriptor, bytes([byte ^ 1]), 5 * BLOCK)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", damage)


def disk_with(free_bytes):
    """Return what the kernel says of a disk with so much room."""
    return SimpleNamespace(f_bavail=free_bytes, f_frsize=1)


def test_no_room_is_said_before_anything_is_written(original, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda folder: disk_with(9 * BLOCK))
    with pytest.raises(SiteError, match=r"no room: .* GiB to copy, .* GiB are free"):
        staged(original, tmp_path / "node")
    assert not list((tmp_path / "node").rglob("spectra.h5"))


def test_what_is_half_copied_counts_as_room_that_is_taken_already(original, tmp_path, monkeypatch):
    half_copied(original, tmp_path / "node", blocks=6)
    monkeypatch.setattr(os, "statvfs", lambda folder: disk_with(6 * BLOCK))
    found, _ = staged(original, tmp_path / "node")
    assert found.paths[0].read_bytes() == original.read_bytes()


def test_copies_that_no_job_uses_any_more_make_room_and_used_ones_stay(tmp_path, monkeypatch):
    folder = tmp_path / "node"
    for name in ("unused", "used", "new"):
        (tmp_path / name).write_bytes(os.urandom(BLOCK))
    paths = {name: staged(tmp_path / name, folder)[0].paths[0] for name in ("unused", "used")}
    release(paths["unused"])
    monkeypatch.setattr(os, "statvfs", lambda folder: disk_with(0 if paths["unused"].exists() else BLOCK))
    staged(tmp_path / "new", folder)
    assert not paths["unused"].exists()
    assert paths["used"].exists()


def release(path):
    """Drop the lock that this process holds on a copy, as its end would."""
    lock = (path.parent / "lock").stat().st_ino
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.fstat(int(name)).st_ino == lock:
                os.close(int(name))


def test_a_disk_that_is_full_before_or_meanwhile_is_an_error_of_the_site(tmp_path, tiny_disk, monkeypatch):
    (tmp_path / "large").write_bytes(os.urandom(100_000))
    with pytest.raises(SiteError, match="no room"):
        staged(tmp_path / "large", tiny_disk)
    monkeypatch.setattr(os, "statvfs", lambda folder: disk_with(10**9))  # somebody else takes it while we copy
    with pytest.raises(SiteError, match="No space left"):
        staged(tmp_path / "large", tiny_disk)
    assert not list(tiny_disk.rglob("part"))


def test_a_folder_that_cannot_be_made_or_is_somebody_elses_is_an_error_of_the_site(original, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(SiteError, match="Not a directory"):
        staged(original, tmp_path / "file" / "below")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / f"hpctrain-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(SiteError, match="belongs to somebody else"):
        staged(original, tmp_path / "link")


def test_two_who_copy_the_same_file_at_once_make_one_copy(original, tmp_path):
    sources = [CountingSource(original) for _ in range(6)]
    found = []

    def copy(source):
        found.append(stage([source], tmp_path / "node", Activity()))

    threads = [threading.Thread(target=copy, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(source.opened_at) for source in sources) == 1
    assert {item.paths[0].read_bytes() for item in found} == {original.read_bytes()}


def test_who_waits_for_another_job_can_be_asked_to_stop(original, tmp_path):
    found, _ = staged(original, tmp_path / "node")
    release(found.paths[0])
    (found.paths[0].parent / "record.json").unlink()
    with open(found.paths[0].parent / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        activity = Activity()
        threading.Timer(0.3, activity.cancelled.set).start()
        with pytest.raises(WorkCancelledError):
            staged(original, tmp_path / "node", activity)


def test_a_place_that_another_process_holds_and_neglects_is_given_up(original, tmp_path, monkeypatch):
    found, _ = staged(original, tmp_path / "node")  # this process is the other one, too: it holds the lock
    os.truncate(found.paths[0], 100)
    monkeypatch.setattr(place_module, "_WAIT_S", 0.3)
    with pytest.raises(SiteError, match="held by another process"):
        staged(original, tmp_path / "node")


def test_one_bad_file_ends_the_copying_of_the_others(original, tmp_path):
    def fail(offset):
        raise OSError("gone")

    bad = tmp_path / "bad"
    bad.write_bytes(b"x")
    with pytest.raises(DataError, match="gone"):
        stage([CountingSource(original), CountingSource(bad, fail)], tmp_path / "node", Activity())


KILLED = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
import hpctrain.samples.place as place
import hpctrain.samples.stage as stage
from hpctrain.samples.activity import Activity
from hpctrain.samples.sources import LocalSource
stage.BLOCK_BYTES = place.BLOCK_BYTES = 4096
place.KEEP_FREE_BYTES = 0
class Killing(Activity):
    def moved(self, done_bytes=0):
        super().moved(done_bytes)
        if self.signs == int(sys.argv[3]):
            os.kill(os.getpid(), 9)
stage.stage([LocalSource(Path(sys.argv[1]))], Path(sys.argv[2]), Killing())
"""


@pytest.mark.slow
@pytest.mark.parametrize("signs", [1, 5, 11, 15])
def test_kill_minus_9_at_any_place_leaves_a_copy_that_is_gone_on_with(original, tmp_path, signs):
    """While copying (11 blocks) and while reading back (11 more)."""
    command = [sys.executable, "-c", KILLED, str(original), str(tmp_path / "node"), str(signs)]
    assert subprocess.run(command, check=False).returncode == -9
    found, source = staged(original, tmp_path / "node")
    assert source.opened_at[0] == min(signs, 11) * BLOCK if source.opened_at else signs >= 11
    assert found.paths[0].read_bytes() == original.read_bytes()
    assert json.loads((found.paths[0].parent / "record.json").read_text())["bytes"] == original.stat().st_size
