"""Files from a web server, from fsspec's stores, and from the file system, as bytes that can be asked for again."""

from __future__ import annotations

import builtins
import os
import shutil
import socket
import ssl
import subprocess
import sys
import traceback

import pytest
from file_server import FileServer

import hpctrain.samples.place as place_module
import hpctrain.samples.stage as stage_module
from hpctrain.errors import DataError, SiteError
from hpctrain.samples import web
from hpctrain.samples.activity import Activity, WorkCancelledError
from hpctrain.samples.sources import LocalSource, find_sources
from hpctrain.samples.stage import stage

MIB = 2**20


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    for module in (stage_module, place_module):
        monkeypatch.setattr(module, "BLOCK_BYTES", MIB)


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


def test_a_file_that_vanishes_before_it_is_copied_is_said_without_what_signs_the_address(server, tmp_path, monkeypatch):
    monkeypatch.setattr(stage_module, "_TRIES", 1)
    found = find_sources([f"{server.url}/spectra.h5?signature=abc"])
    server.redirects = {"/spectra.h5?signature=abc": "/missing.h5?signature=abc"}
    with pytest.raises(DataError, match=r"\?\.\.\.: byte 0 cannot be read: the server answers 404") as caught:
        stage(found, tmp_path, Activity())
    assert "abc" not in "".join(traceback.format_exception(caught.value))


def test_an_address_reaches_the_server_as_it_was_signed(server):
    server.redirects = {"/a%20b%2Fc%0d.h5?signature=%2b+~%C3%A4&x=(1)": "/missing.h5"}
    with pytest.raises(DataError, match="404"):
        find_sources([f"{server.url}/a b%2Fc%0d.h5?signature=%2b+~\u00e4&x=(1)#part"])


def test_the_proxy_of_the_environment_is_asked(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    found = fetched(["http://archive.invalid/spectra.h5"], tmp_path)
    assert found.paths[0].read_bytes() == server.content


FETCHED = """
import sys
from hpctrain.samples.web import HttpSource
for address in sys.argv[1:]:
    with HttpSource(address).open_at(5) as stream:
        print(len(stream.read()))
unread = HttpSource(address).open_at(0)
"""


@pytest.mark.slow
def test_a_process_that_has_fetched_files_closes_its_connections(server):
    server.content = b"x" * 1000
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", FETCHED, f"{server.url}/a", f"{server.url}/b"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "995\n995\n", "")


def test_a_server_that_does_not_answer_is_said(server):
    server.close()
    with pytest.raises(DataError, match=r"cannot be fetched: .*refused"):
        find_sources([f"{server.url}/spectra.h5"])


@pytest.mark.parametrize("target", ["ftp://127.0.0.1:{port}/x", "file:///etc/passwd", "gopher://x/y", "s3://b/x"])
def test_a_redirect_that_leaves_the_web_is_not_followed(server, target):
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        target = target.format(port=other.getsockname()[1])
        server.redirects = {"/spectra.h5": target}
        with pytest.raises(DataError, match=r"spectra\.h5: .*(which is not followed|is not allowed)"):
            find_sources([f"{server.url}/spectra.h5"])
        with pytest.raises(BlockingIOError):  # nobody has called
            other.accept()


def test_a_redirect_to_another_web_address_is_followed_and_one_to_itself_is_an_error(server, tmp_path):
    server.redirects = {"/spectra.h5": f"{server.url}/elsewhere.h5", "/loop.h5": f"{server.url}/loop.h5"}
    found = fetched([f"{server.url}/spectra.h5"], tmp_path)
    assert found.paths[0].read_bytes() == server.content
    assert found.paths[0].name == "spectra.h5"
    with pytest.raises(DataError, match=r"loop\.h5: the server answers 302 .*infinite loop"):
        find_sources([f"{server.url}/loop.h5"])


def test_an_encrypted_address_is_verified_and_never_left_for_one_in_the_clear(server, tmp_path, monkeypatch):
    context = own_certificate(tmp_path)
    secure = FileServer(server.content, context)
    try:
        address = secure.url.replace("127.0.0.1", "localhost")
        with pytest.raises(DataError, match=r"cannot be fetched: .*certificate verify failed"):
            find_sources([f"{address}/spectra.h5"])
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        web._file_system.cache_clear()
        assert fetched([f"{address}/spectra.h5"], tmp_path / "node").paths[0].read_bytes() == server.content
        secure.redirects = {"/spectra.h5": f"{server.url}/spectra.h5"}
        with pytest.raises(DataError, match=r"redirects to http://.*/spectra\.h5, which is not followed"):
            find_sources([f"{address}/spectra.h5"])
    finally:
        web._file_system.cache_clear()
        secure.close()


def own_certificate(folder):
    """Return the TLS context of a server with a certificate that nobody has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("makes a certificate with openssl, which is not installed")
    files = {"-keyout": folder / "key.pem", "-out": folder / "certificate.pem"}
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    options = [str(word) for pair in files.items() for word in pair]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["-out"], files["-keyout"])
    return context


@pytest.mark.parametrize("address", ["http://user:secret@127.0.0.1:1/x.h5", "http://127.0.0.1:1/a b\x7f", "http://:/x"])
def test_an_address_that_is_none_is_an_error_without_a_traceback(address):
    with pytest.raises(DataError, match="cannot be fetched") as caught:
        find_sources([address])
    assert "secret" not in str(caught.value)


ODD = ["record.json", "lock", "checks", "part", ".record.json", "..", ".", "%00", "a%00b", "%2e%2e", "..%2f..%2fx", ""]


@pytest.mark.parametrize("name", [*ODD, "%1b[2J", "x" * 300 + ".h5", "%ff%fe", "%E2%80%AEx.h5"])
def test_no_name_of_a_remote_file_collides_with_our_own_files_or_leaves_the_folder(server, tmp_path, name):
    for _ in range(2):  # the second time the copy is found again
        found = fetched([f"{server.url}/{name}"], tmp_path / "node")
    [path] = found.paths
    assert found.copied_bytes == 0
    assert path.read_bytes() == server.content
    assert path.name.isprintable()
    assert path.parent.parent == tmp_path / "node" / f"hpctrain-{os.getuid()}"
    assert path.resolve() == path
    assert sorted(entry.name for entry in path.parent.iterdir()) == sorted(["lock", path.name, "record.json"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["node"]


def test_local_files_may_have_our_own_names_and_bytes_that_are_no_text_too(tmp_path):
    names = [b"lock", b"record.json", b"part", b"checks", b"\xff\xfe.h5", b"a\nb.h5"]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(name)
    found = stage([LocalSource(tmp_path / os.fsdecode(name)) for name in names], tmp_path / "node", Activity())
    assert [path.read_bytes() for path in found.paths] == names


def test_what_a_server_says_about_its_version_is_printable(server):
    server.version = '"\x1b]0;title\x07"'
    [source] = find_sources([f"{server.url}/spectra.h5"])
    assert source.version.isprintable()


@pytest.mark.parametrize("claimed", ["10", "1000000000000000000", "-1", "many"])
def test_a_size_that_is_a_lie_is_noticed(server, tmp_path, claimed):
    server.claims = claimed
    with pytest.raises((DataError, SiteError), match=r"no room|reports 10 bytes and sends|does not report the size"):
        fetched([f"{server.url}/spectra.h5"], tmp_path)


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


@pytest.mark.parametrize(
    ("address", "package", "wanted"),
    [
        ("s3://bucket/x.h5", "fsspec", "'hpctrain[remote]'"),
        ("s3://bucket/x.h5", "s3fs", "'hpctrain[remote]'"),
        ("https://example.org/x.h5", "fsspec", "'hpctrain[remote]'"),
        ("https://example.org/x.h5", "aiohttp", "'hpctrain[remote]'"),
        ("gs://bucket/x.h5", "gcsfs", "gcsfs"),
    ],
)
def test_a_file_whose_package_is_missing_is_named_with_what_installs_it(monkeypatch, address, package, wanted):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else object())
    with pytest.raises(DataError) as caught:
        find_sources([address])
    assert str(caught.value) == f"{address}: fetching it needs the package {package}: pip install {wanted}"


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
