"""``hpctrain scan-secrets``: planted passwords, tokens and keys are found wherever they are, and nothing else is."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile

import h5py
import numpy as np
import pytest

from hpctrain.cli import main
from hpctrain.credentials.hide import hide_secrets, own_command
from hpctrain.credentials.known import known_secrets
from hpctrain.credentials.scan import Sought, scan_stream
from hpctrain.credentials.urls import without_login, without_logins
from hpctrain.errors import ProfileError
from hpctrain.metrics.events import Failed
from hpctrain.metrics.record import MetricsWriter
from hpctrain.profile.load import load_profile
from hpctrain.rundir import RunDir

DIGITS = "0123456789abcdef"
# Each is made of two parts, so that no scanner of secrets stumbles over this file.
PLANTED = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEow",
    "a password in a URL": "postgresql+psycopg://lab:" + "hunter2@db.example.org/runs",
    "a password of a database": "host=db.example.org user=lab " + "password=hunter2-b dbname=runs",
    "a signature in a URL": "https://s3.example.org/x.h5?X-Amz-Expires=60&X-Amz-" + "Signature=" + 4 * DIGITS,
    "an AWS access key": "AKIA" + "IOSFODNN7EXAMPLE",
    "an Azure storage key": "DefaultEndpointsProtocol=https;Account" + "Key=" + 5 * DIGITS + "abcdef==",
    "a GitHub token": "ghp" + "_" + 2 * DIGITS,
    "a GitLab token": "glpat" + "-" + DIGITS + "wxyz",
    "a Hugging Face token": "hf" + "_" + 2 * DIGITS,
    "an API key": "sk" + "-proj-" + DIGITS,
    "a Slack token": "xoxb" + "-1234567890-abc",
    "a Slack address": "https://hooks.slack.com" + "/services/T012/B345/x",
    "a Google API key": "AI" + "za" + 2 * DIGITS + "xyz",
    "a Google token": "ya29" + "." + 2 * DIGITS,
    "a Databricks token": "dapi" + 2 * DIGITS,
    "a Docker token": "dckr" + "_pat_" + 2 * DIGITS,
    "a PyPI token": "pypi" + "-" + 2 * DIGITS,
    "an npm token": "npm" + "_" + 2 * DIGITS,
    "a JSON web token": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
    "a bearer token": "Authorization: Bearer " + 2 * DIGITS,
    "a W&B API key": "wandb login " + 2 * DIGITS + "01234567",
    "a password or token": "MY_SERVICE_PASSWORD=" + "correct7horse",
}
SECRET = "planted" + "-Secret/7&8"


def kinds_in(content: bytes, known: dict[str, str] | None = None) -> list[str]:
    return [found.kind for found in scan_stream(io.BytesIO(content), Sought.of(known or {}))]


@pytest.mark.parametrize("kind", PLANTED)
def test_each_form_is_found_once_in_a_text_and_in_a_binary_file_and_hidden_in_a_text(kind):
    text = f"first line\n{PLANTED[kind]}\nlast line\n"
    (found,) = scan_stream(io.BytesIO(text.encode()), Sought.of({}))
    assert (found.kind, found.line) == (kind, 2)
    assert kinds_in(b"\0\1\2" + text.encode() + b"\xff\0") == [kind]
    assert kinds_in(hide_secrets(text).encode()) == []


def test_the_place_is_right_in_a_long_file_and_where_two_blocks_meet():
    """A block has 1 MiB; one credential lies across its end."""
    line = b"x" * 63 + b"\n"
    token = PLANTED["a GitHub token"].encode()
    before = line * ((1 << 14) - 1) + b"y" * 40 + b" "
    content = before + token + b"\n" + line * (1 << 14) + token + b"\n"
    found = list(scan_stream(io.BytesIO(content), Sought.of({})))
    assert [each.line for each in found] == [1 << 14, (1 << 15) + 1]
    assert [content[each.offset : each.offset + each.length] for each in found] == [token, token]
    binary = np.random.default_rng(1).bytes(3 << 20) + b"\0" + token + b"\0"
    (inside,) = scan_stream(io.BytesIO(binary), Sought.of({}))
    assert binary[inside.offset : inside.offset + inside.length] == token


def test_what_follows_the_beginning_of_a_private_key_is_looked_at():
    text = f"{PLANTED['a private key']}\n{PLANTED['a GitHub token']}\n"
    assert kinds_in(text.encode()) == ["a private key", "a GitHub token"]


def test_the_secrets_of_the_environment_are_found_however_they_are_written():
    known = known_secrets({"LAB_API_TOKEN": SECRET, "TRACKING_URI": "http://me:pass%2Fword9@host", "HOME": "/root"})
    assert known == {SECRET: "LAB_API_TOKEN", "pass%2Fword9": "TRACKING_URI", "pass/word9": "TRACKING_URI"}
    for written in (SECRET, json.dumps(SECRET), "planted-Secret%2F7%268", "planted-Secret/7&amp;8"):
        assert kinds_in(f"it is {written}.".encode(), known) == ["the value of the variable LAB_API_TOKEN"]
        assert hide_secrets(written, {"LAB_API_TOKEN": SECRET}).count("[hidden: $LAB_API_TOKEN]") == 1


@pytest.mark.parametrize("value", ["4096", "false", "/run/user/0/agent.1", "short", "${OTHER}"])
def test_numbers_words_and_paths_are_no_secrets_although_the_variable_is_called_so(value):
    assert known_secrets({"MAX_TOKENS": value, "SSH_AUTH_SOCK": "/tmp/ssh/agent.1"}) == {}


@pytest.mark.parametrize(
    "text",
    [
        '"commit": "' + 2 * DIGITS + '01234567"',
        f'"sha256": "{4 * DIGITS}"',
        f'"token": "{2 * DIGITS}"',  # the registry's own marks
        "password = os.environ['LAB_PASSWORD_2']",
        "postgresql://lab:${PGPASSWORD}@host/db",
        "postgresql://…@host/db, postgresql://lab:…@host/db, https://[hidden: a password in a URL]@host",
        "max_tokens: 4096\nsecret_key: null",
        "basic understanding_of_astronomy",
    ],
)
def test_what_is_no_credential_is_not_reported(text):
    assert kinds_in(text.encode()) == []


def test_a_command_lists_files_archives_and_binary_files_and_ends_with_7(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LAB_API_TOKEN", SECRET)
    monkeypatch.setenv("OTHER", "quite-harmless-1")
    token = PLANTED["a GitHub token"].encode()
    run = tmp_path / "runs"
    run.mkdir()
    (run / "log.txt").write_text(f"ok\nthe token {SECRET}\nquite-harmless-1\n")
    (run / "log.gz").write_bytes(gzip.compress(b"ok\n" + token))
    with zipfile.ZipFile(run / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside/card.json", token)
    with tarfile.open(run / "bundle.tgz", "w:gz") as archive:
        archive.add(run / "log.txt", "notes.txt")
    with h5py.File(run / "data.h5", "w") as file:
        file.attrs["command"] = f"fetch --key {SECRET}"
        file["flux"] = np.random.default_rng(1).normal(size=100_000)
    (run / "link").symlink_to("log.txt")
    (run / "skipped").mkdir()
    (run / "skipped" / "log.txt").write_bytes(token)
    monkeypatch.chdir(tmp_path)
    assert main(["scan-secrets", "--skip", "skip*"]) == 7
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    lines = said.out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "runs/bundle.tgz (notes.txt)",
        "runs/data.h5",
        "runs/log.gz (unpacked)",
        "runs/log.txt",
        "runs/model.zip (inside/card.json)",
    ]
    assert lines[3] == "runs/log.txt: line 2: the value of the variable LAB_API_TOKEN, 18 characters"
    assert main(["scan-secrets", "runs/log.txt", "--variable", "OTHER", "--json"]) == 7
    assert [each["line"] for each in json.loads(capsys.readouterr().out)["found"]] == [2, 3]


def test_what_cannot_be_read_is_said_with_exit_code_4_and_a_missing_folder_with_2(tmp_path, capsys):
    (tmp_path / "broken.gz").write_bytes(gzip.compress(b"text" * 1000)[:-20])
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04" + b"x" * 100)
    assert main(["scan-secrets", str(tmp_path)]) == 4
    assert capsys.readouterr().err.count("not read: ") == 2
    assert main(["scan-secrets", str(tmp_path / "gone")]) == 2
    assert main(["scan-secrets", str(tmp_path), "--variable", "NOBODY_SET_IT"]) == 2


def test_a_profile_with_a_secret_of_the_environment_or_a_signed_address_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_API_TOKEN", SECRET)
    monkeypatch.setenv("SIGNED", PLANTED["a signature in a URL"])
    profile = tmp_path / "profile.yaml"
    for name, kind in {"LAB_API_TOKEN": "the value of the variable", "SIGNED": "a signature in a URL"}.items():
        profile.write_text(f"name: run\ndata: {{files: ['${{{name}}}']}}\n")
        with pytest.raises(ProfileError, match=f"data.files.0: holds (what looks like )?{kind}") as refused:
            load_profile(profile)
        assert os.environ[name] not in str(refused.value)


@pytest.mark.parametrize("line", ["export WANDB_API_KEY=" + 2 * DIGITS, "ALL,LAB_SECRET=" + DIGITS])
def test_a_variable_that_a_profile_sets_to_a_secret_is_refused(line):
    with pytest.raises(ProfileError, match="description: holds what looks like a password or token"):
        load_profile({"name": "run", "description": line, "data": {"files": ["x.h5"]}})


def test_an_error_is_recorded_without_the_password_in_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_API_TOKEN", SECRET)
    run = RunDir.create(tmp_path, "run", "20270115-080000-aaaa")
    writer = MetricsWriter(run, attempt=1)
    writer.event(Failed(error=f"no answer from {PLANTED['a password in a URL']} with {SECRET}", exit_code=4), 1)
    writer.close()
    written = run.metrics.read_text()
    assert "hunter2" not in written
    assert SECRET not in written
    assert "[hidden: $LAB_API_TOKEN]" in written


def test_the_command_line_that_a_file_keeps_and_an_unexpected_error_show_no_secret(monkeypatch):
    monkeypatch.setenv("LAB_API_TOKEN", SECRET)
    monkeypatch.setattr(sys, "argv", ["hpctrain", "ingest", f"--note={SECRET}"])
    assert own_command() == ["hpctrain", "ingest", "--note=[hidden: $LAB_API_TOKEN]"]
    code = (
        "import threading; from hpctrain.credentials.hide import hide_in_tracebacks as h; h()\n"
        f"threading.Thread(target=open, args=[{SECRET!r}]).start()\nopen({SECRET!r})"
    )
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.count("No such file or directory: '[hidden: $LAB_API_TOKEN]'") == 2
    assert SECRET not in failed.stderr


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://lab:pw@host:80/a@b", "http://host:80/a@b"),
        ("postgresql://lab:p/w@host/db", "postgresql://host/db"),
        ("sqlite:////home/me@lab/x.db", "sqlite:////home/me@lab/x.db"),
        ("mlruns", "mlruns"),
    ],
)
def test_an_address_is_shown_without_its_login(url, shown):
    assert without_login(url) == shown
    assert "pw@" not in without_logins(url)
