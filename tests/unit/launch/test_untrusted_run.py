"""A run directory that somebody else may have prepared: no link is followed, no process is signalled unproved."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest

from hpctrain.cli import main
from hpctrain.credentials.hide import hide_secrets
from hpctrain.distributed.process import identity, send_signal
from hpctrain.errors import SiteError
from hpctrain.files import NewFile, open_append, read_lines, read_text
from hpctrain.launch.provenance import git_state
from hpctrain.launch.stop import cancel
from hpctrain.launch.supervisor import supervisor_path
from hpctrain.metrics.record import MetricsWriter
from hpctrain.rundir import RunDir, note_bad_nodes, read_json, write_atomic, write_json
from hpctrain.terminal import PrintableStream, console, printable


@pytest.fixture
def run(tmp_path):
    made = RunDir.create(tmp_path / "runs", "quasars", "20270115-080000-aaaa")
    made.profile.write_text("name: quasars\n")
    return made


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_text("mine")
    return path


SLEEPER = """
import json, time
from hpctrain.distributed.process import identity
print(json.dumps(identity()), flush=True)
time.sleep(600)
"""
HOLDER = """
import fcntl, sys, time
stream = open(sys.argv[1], "w")
fcntl.lockf(stream, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def started():
    processes = []

    def start(code, *arguments):
        command = [sys.executable, "-c", code, *arguments]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return processes[-1], processes[-1].stdout.readline()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_no_planted_link_is_written_through(run, victim):
    for name in (".report.html", ".metrics.jsonl"):
        for pid in range(os.getpid() - 5, os.getpid() + 5):
            (run.path / f"{name}.{pid}.tmp").symlink_to(victim)
    write_atomic(run.report, "page")
    run.metrics.symlink_to(victim)
    run.bad_nodes.symlink_to(victim)
    writer = MetricsWriter(run, attempt=1)
    writer.train(1, loss=0.5)
    writer.close()
    note_bad_nodes(run, ["n1"], "7")
    assert victim.read_text() == "mine"
    assert [record["step"] for record in run.read_metrics("train")] == [1]
    assert "n1" in run.bad_nodes.read_text()


def test_a_link_in_the_place_of_a_file_is_replaced_and_never_what_it_leads_to(run, victim):
    run.report.symlink_to(victim)
    write_atomic(run.report, "page")
    assert (victim.read_text(), run.report.read_text(), run.report.is_symlink()) == ("mine", "page", False)


def test_no_planted_link_or_pipe_is_read(run, victim):
    run.job.symlink_to(victim)
    os.mkfifo(run.metrics)
    with pytest.raises(OSError, match="symbolic link"):
        read_text(run.job)
    with pytest.raises(OSError, match="not a regular file"):
        list(read_lines(run.metrics))
    assert read_json(run.job, "default") == "default"


def test_a_report_does_not_publish_what_a_planted_link_leads_to(run, victim, tmp_path):
    victim.write_text("name: the private words\n")
    run.profile.unlink()
    run.profile.symlink_to(victim)
    run.script.symlink_to(victim)
    assert main(["report", str(run.path), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "the private words" not in page
    assert "symbolic link" in page


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to another user")
def test_a_folder_may_be_a_link_of_ones_own_and_of_nobody_else(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    (real / "file").write_text("text")
    link.symlink_to(real)
    assert read_text(link / "file") == "text"
    os.lchown(link, 12345, 12345)
    with pytest.raises(OSError, match="another user"):
        read_text(link / "file")


def test_a_new_file_replaces_a_folder_only_where_that_is_asked_for(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(IsADirectoryError), NewFile(tmp_path / "out") as new:
        new.stream.write(b"x")
    with NewFile(tmp_path / "out", replace_folders=True) as new:
        new.stream.write(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.damaged-1"]


def test_appending_puts_aside_what_is_no_file(tmp_path):
    (tmp_path / "log").mkdir()
    os.close(open_append(tmp_path / "log"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.damaged-1"]


@pytest.mark.parametrize("pid", [-1, 0, 1])
def test_cancel_trusts_no_number_in_a_file(run, started, pid):
    """Process -1 is every process of the user, 0 his own group, 1 the machine's first."""
    write_json(run.job, {"cluster": "local", "submissions": [{"job_id": "local-7"}]})
    write_json(supervisor_path(run), {"job_id": "local-7", "pid": pid, "process": {**identity(), "pid": pid}})
    started(HOLDER, str(run.attempts / "supervisor.lock"))
    with pytest.raises(SiteError, match="cannot prove"):
        cancel(run)


def test_cancel_signals_no_process_that_does_not_hold_the_lock(run, started):
    """A bystander is named in the file, and another process holds the lock."""
    bystander, said = started(SLEEPER)
    started(HOLDER, str(run.attempts / "supervisor.lock"))
    write_json(run.job, {"cluster": "local", "submissions": [{"job_id": "local-7"}]})
    write_json(supervisor_path(run), {"job_id": "local-7", "pid": bystander.pid, "process": json.loads(said)})
    with pytest.raises(SiteError, match="cannot prove"):
        cancel(run)
    assert bystander.poll() is None


def test_a_lock_that_is_no_supervisors_lock_is_none(run):
    """Somebody may hold a lock of another kind on the file."""
    write_json(run.job, {"cluster": "local", "submissions": [{"job_id": "local-7"}]})
    with open(run.attempts / "supervisor.lock", "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert "nothing to cancel" in cancel(run)


def test_a_signal_reaches_only_the_process_that_wrote_its_identity(started):
    process, said = started(SLEEPER)
    found = json.loads(said)
    for change in ({"started_ticks": 1}, {"boot_id": "another"}, {"pid_namespace": "another"}, {"pid": -1}):
        assert not send_signal({**found, **change}, signal.SIGTERM)
    assert process.poll() is None
    assert send_signal(found, signal.SIGTERM)
    assert process.wait(600) == -signal.SIGTERM
    assert not send_signal(found, signal.SIGTERM)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_cancel_does_not_trust_a_job_id_that_somebody_else_wrote(run):
    write_json(run.job, {"cluster": "slurm", "submissions": [{"job_id": "7"}]})
    write_json(run.heartbeat(0), {"rank": 0, "attempt": 1, "time": 1e11, "interval_s": 10, "state": "training"})
    os.chown(run.job, 12345, 12345)
    with pytest.raises(SiteError, match="belongs to another user"):
        cancel(run)


def test_a_job_id_is_never_an_option_of_scancel(run):
    write_json(run.job, {"cluster": "slurm", "submissions": [{"job_id": "--me"}, {"job_id": "7"}]})
    assert [entry["job_id"] for entry in run.read_job()["submissions"]] == ["7"]


SECRETS = {
    'TOKEN = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"': "ghp_",
    "key: AKIAIOSFODNN7EXAMPLE": "AKIA",
    "x = 'github_pat_11ABCDEFG0abcdefghijkl'": "github_pat",
    'client("sk-proj-abcdefghijklmnopqrst")': "sk-proj",
    "hf_abcdefghijklmnopqrstuvwxyz": "hf_",
    "xoxb-1234567890-abcdef": "xoxb",
    'password = "hunter2"': "hunter2",
    "export API_TOKEN=abc123def": "abc123def",
    '"secret": "two words",': "two words",
    "db = 'postgres://joe:s3cr3t@host/db'": "s3cr3t",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG": "wJalr",
    "-----BEGIN RSA PRIVATE KEY-----\n+MIIEow\n-----END RSA PRIVATE KEY-----": "MIIEow",
}


@pytest.mark.parametrize("text", SECRETS, ids=str)
def test_credentials_in_a_diff_are_replaced_by_a_marker(text):
    hidden = hide_secrets(f"+{text}\n")
    assert SECRETS[text] not in hidden
    assert "[hidden: " in hidden


@pytest.mark.parametrize(
    "code",
    [
        "token = next(tokens)",
        "def read(token: str) -> None:",
        'password = os.environ["PASSWORD"]',
        'author = "Jane Doe"',
        "Subproject commit 0123456789abcdef0123456789abcdef01234567",
    ],
)
def test_code_without_credentials_stays_as_it_is(code):
    assert hide_secrets(code) == code


def test_uncommitted_credentials_are_not_in_the_provenance(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "code.py").write_text("x = 1\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    (tmp_path / "code.py").write_text('x = 2\nTOKEN = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"\n')
    diff = git_state(tmp_path)["diff"]
    assert "+x = 2" in diff
    assert "ghp_" not in diff


def test_what_could_steer_a_terminal_is_written_out():
    assert printable("a\x1b[2Jb\x9bc\u202ed\re\x07") == "a\\x1b[2Jb\\x9bc\\u202ed\\x0de\\x07"
    assert printable("naïve χ² 星\tx\r\ny\n") == "naïve χ² 星\tx\r\ny\n"


def test_output_to_a_terminal_is_printable_and_tables_keep_their_colours(tmp_path):
    from rich.text import Text

    with open(tmp_path / "said", "w", encoding="utf-8") as stream:
        print("log \x1b]0;title\x07", file=PrintableStream(stream))
        screen = console(PrintableStream(stream), force_terminal=True, color_system="standard", width=60)
        screen.print(Text("cell \x1b[31m", style="green"))
    said = (tmp_path / "said").read_text()
    assert "log \\x1b]0;title\\x07" in said
    assert "\x1b[32m" in said
    assert "cell \\x1b[31m" in said


def test_an_error_message_shows_no_raw_escape_sequence(tmp_path, capsys):
    (tmp_path / "p.yaml").write_text('name: a\nlaunch: {sbatch: {"x\\e[31m": 1}}\n')
    assert main(["check", str(tmp_path / "p.yaml")]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.err + said.out
    assert "x\\x1b[31m" in said.err
