"""Files from a web server, from fsspec's stores, and from the file system, as bytes that can be asked for again."""

from __future__ import annotations

import builtins
import os

import pytest
from file_server import FileServer

import hpctrain.spectra.stage as stage_module
from hpctrain.errors import DataError
from hpctrain.spectra.activity import Activity, WorkCancelledError
from hpctrain.spectra.sources import find_sources
from hpctrain.spectra.stage import stage

MIB = 2**20


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(stage_module, "BLOCK_BYTES", MIB)


@pytest.fixture
def server():
    server = FileServer(os.urandom(4 * MIB + 17))
    yield server
    server.close()


def fetched(patterns, folder):
    return stage(find_sources(patterns), folder, Activity())


@pytest.mark.parametrize("knows_ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_file_of_a_web_server_is_fetched_once(server, tmp_path, knows_ranges):
    server.knows_ranges = knows_ranges
    found = fetched([f"{server.url}/spectra.h5"], tmp_path)
    assert found.paths[0].read_bytes() == server.content
    assert found.paths[0].name == "spectra.h5"
    assert fetched([f"{server.url}/spectra.h5"], tmp_path).copied_bytes == 0


@pytest.mark.parametrize("knows_ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_connection_that_breaks_is_made_again_from_there(server, tmp_path, knows_ranges):
    server.knows_ranges, server.breaks_after = knows_ranges, 2 * MIB
    assert fetched([f"{server.url}/spectra.h5"], tmp_path).paths[0].read_bytes() == server.content
    assert f"bytes={2 * MIB}-" in server.ranges


def test_a_fetch_that_was_cut_off_goes_on_from_its_last_whole_block(server, tmp_path):
    class Cancelling(Activity):
        def moved(self, done_bytes=0):
            if self.done_bytes == 2 * MIB:
                self.cancelled.set()
            super().moved(done_bytes)

    with pytest.raises(WorkCancelledError):
        stage(find_sources([f"{server.url}/spectra.h5"]), tmp_path, Cancelling())
    assert fetched([f"{server.url}/spectra.h5"], tmp_path).paths[0].read_bytes() == server.content
    assert f"bytes={2 * MIB}-" in server.ranges


def test_another_version_on_the_server_is_fetched_anew(server, tmp_path):
    first = fetched([f"{server.url}/spectra.h5"], tmp_path)
    server.content, server.version = os.urandom(MIB), '"2"'
    second = fetched([f"{server.url}/spectra.h5"], tmp_path)
    assert second.paths[0].read_bytes() == server.content
    assert first.paths != second.paths


def test_addresses_that_differ_in_their_query_are_different_files(server):
    assert len(find_sources([f"{server.url}/get?id=1", f"{server.url}/get?id=2", f"{server.url}/get?id=1"])) == 2


def test_a_missing_file_is_said_without_what_signs_the_address(server):
    with pytest.raises(DataError, match=r"/missing\.h5\?\.\.\.: the server answers 404") as caught:
        find_sources([f"{server.url}/missing.h5?signature=abc"])
    assert "abc" not in str(caught.value)


def test_a_server_that_does_not_answer_is_said(server):
    server.close()
    with pytest.raises(DataError, match=r"cannot be fetched: .*refused"):
        find_sources([f"{server.url}/spectra.h5"])


def test_an_empty_file_of_a_server_is_a_file(server, tmp_path):
    server.content = b""
    assert fetched([f"{server.url}/spectra.h5"], tmp_path).paths[0].read_bytes() == b""


def test_files_of_a_store_are_found_by_pattern_and_fetched(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    contents = {f"/bucket/{name}.h5": os.urandom(MIB + 5) for name in "ab"}
    for path, content in contents.items():
        store.pipe(path, content)
    try:
        found = fetched(["memory://bucket/*.h5"], tmp_path / "node")
        assert [path.read_bytes() for path in found.paths] == list(contents.values())
        assert [path.name for path in found.paths] == ["a.h5", "b.h5"]
        with pytest.raises(DataError, match=r"memory://bucket/c\.h5: no such file"):
            find_sources(["memory://bucket/c.h5"])
        with pytest.raises(DataError, match="no file matches"):
            find_sources(["memory://bucket/*.fits"])
    finally:
        store.rm("/bucket", recursive=True)


def test_a_file_of_fsspecs_local_store_goes_on_too(tmp_path):
    pytest.importorskip("fsspec")
    original = tmp_path / "spectra.h5"
    original.write_bytes(os.urandom(3 * MIB))
    found = fetched([f"file://{original}"], tmp_path / "node")
    assert found.paths[0].read_bytes() == original.read_bytes()
    os.utime(original, ns=(1, 1))
    assert fetched([f"file://{original}"], tmp_path / "node").paths != found.paths


def test_a_store_whose_package_is_missing_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"s3://bucket/x\.h5: fetching it needs the package fsspec: pip install fsspec"):
        find_sources(["s3://bucket/x.h5"])


def test_an_unknown_kind_of_store_is_an_error_without_a_traceback():
    pytest.importorskip("fsspec")
    with pytest.raises(DataError, match="nonsense://x/y"):
        find_sources(["nonsense://x/y"])


def test_a_plain_path_never_loads_fsspec(tmp_path, monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **options):
        assert not name.startswith("fsspec")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    (tmp_path / "x.h5").write_bytes(b"x")
    assert len(find_sources([str(tmp_path / "x.h5"), str(tmp_path / "*.h5")])) == 1


def test_all_that_is_missing_is_named_at_once(server, tmp_path):
    with pytest.raises(DataError) as caught:
        find_sources([str(tmp_path / "a.h5"), f"{server.url}/missing/b.h5"])
    assert "a.h5: no such file" in str(caught.value)
    assert "b.h5: the server answers 404" in str(caught.value)
