"""A submission that is refused, interrupted or terminated leaves everything as it was before, byte for byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpctrain.launch.targets.slurm_byhand import run_of_this_job
from hpctrain.launch.undo import Undo, undone_on_failure
from hpctrain.rundir import RunDir, read_json

PROFILE = """\
name: tiny
launch: {gpus_per_node: 0, cpus_per_rank: 1, cluster: slurm}
data: {files: [spectra.h5]}
"""
SBATCH = """\
#!/bin/sh
case "$*" in *--test-only*) echo "sbatch: Job 1 to start at once" >&2; exit 0;; esac
echo $$ > {here}/sbatch-began
while [ ! -e {here}/sbatch-answer ]; do sleep 0.05; done
. {here}/sbatch-answer
"""
REFUSES = "echo 'sbatch: error: Invalid account' >&2; exit 1"
TAKES = "echo 'Submitted batch job 77'"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a profile, and on PATH an sbatch that waits for its answer; no other command of Slurm."""
    (tmp_path / "tiny.yaml").write_text(PROFILE)
    (tmp_path / "spectra.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "sbatch").write_text(SBATCH.format(here=tmp_path))
    (commands / "sbatch").chmod(0o755)
    for name in ("sh", "sleep", "env", "git", "uname"):
        (commands / name).symlink_to(f"/usr/bin/{name}" if Path(f"/usr/bin/{name}").exists() else f"/bin/{name}")
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(folder: Path, text: str) -> None:
    (folder / "answer.new").write_text(text + "\n")
    (folder / "answer.new").rename(folder / "sbatch-answer")


def submit(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hpctrain", "submit", "--no-memory", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_sbatch(folder: Path, process: subprocess.Popen[str]) -> None:
    while not (folder / "sbatch-began").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture
def begun(folder) -> RunDir:
    """A run that a job submitted by hand has made."""
    run, _ = run_of_this_job("tiny.yaml", ["train.epochs=7"], {"SLURM_JOB_ID": "12", "SLURM_JOB_NAME": "tiny"})
    return run


def contents(run: RunDir) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}


@pytest.mark.slow
def test_a_refused_submission_leaves_no_folder(folder):
    answer(folder, REFUSES)
    process = submit("tiny.yaml")
    _, errors = process.communicate()
    assert process.returncode == 3, errors
    assert "launch.account" in errors
    assert not (folder / "runs").exists()


@pytest.mark.slow
def test_a_refused_resume_leaves_the_run_as_it_was(folder, begun):
    before = contents(begun)
    answer(folder, REFUSES)
    process = submit("--resume", "tiny", "--set", "train.epochs=9")
    _, errors = process.communicate()
    assert process.returncode == 3, errors
    assert contents(begun) == before


@pytest.mark.slow
def test_a_resume_that_does_not_fit_is_refused_before_sbatch_is_asked(folder, begun):
    begun.model.mkdir()
    (begun.model / "model.json").write_text('{"section": {"latent_size": 10}, "seed": 1}')
    before = contents(begun)
    process = submit("--resume", begun.run_id, "--set", "model.latent_size=3", "train.seed=2", "train.epochs=9")
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert "model.latent_size: is 10 in this run and cannot become 3: the weights of the checkpoint" in errors
    assert "train.seed: is 1 in this run and cannot become 2" in errors
    assert "train.init_from" in errors
    assert "train.epochs" not in errors
    assert not (folder / "sbatch-began").exists()
    assert contents(begun) == before


@pytest.fixture
def hangup_is_heard():
    """Under nohup the test suite ignores SIGHUP, and so would every command that it starts."""
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, inherited)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_while_sbatch_refuses_leaves_no_folder(folder, hangup_is_heard, number):
    process = submit("tiny.yaml")
    wait_for_sbatch(folder, process)
    process.send_signal(number)
    answer(folder, REFUSES)
    _, errors = process.communicate()
    assert process.returncode in (128 + number, -number), errors
    assert number == signal.SIGINT or "nothing was submitted" in errors
    assert not (folder / "runs").exists()
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_signal_while_sbatch_takes_the_job_keeps_the_run_and_names_the_job(folder, begun):
    process = submit("--resume", str(begun.path), "--set", "train.epochs=9")
    wait_for_sbatch(folder, process)
    process.send_signal(signal.SIGTERM)
    answer(folder, TAKES)
    _, errors = process.communicate()
    assert process.returncode != 0
    assert "job 77 was submitted already" in errors
    assert "nothing was submitted" not in errors
    assert [entry["job_id"] for entry in read_json(begun.job)["submissions"]] == ["12", "77"]
    assert "epochs: 9" in begun.profile.read_text()
    assert not list(begun.path.glob(".*before-resume*"))


def test_a_profile_that_cannot_be_put_back_by_a_link_is_put_back_by_a_copy(folder, begun, monkeypatch):
    """Some file systems have no hard links."""

    def no_links(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    before = contents(begun)

    def fail() -> None:
        with undone_on_failure() as undo:
            undo.will_write(begun.profile)
            begun.profile.write_text("changed")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert contents(begun) == before


def test_a_file_that_was_not_replaced_yet_leaves_no_second_name(folder, begun):
    before = contents(begun)
    undo = Undo()
    undo.will_write(begun.profile)
    undo.put_back()
    assert contents(begun) == before


def test_by_hand_a_run_is_resumed_with_the_same_rules(folder, begun):
    from hpctrain.errors import ProfileError

    environment = {"SLURM_JOB_ID": "13", "SLURM_JOB_NAME": "tiny"}
    (begun.model).mkdir()
    (begun.model / "model.json").write_text('{"section": {"latent_size": 10}, "seed": 1}')
    before = contents(begun)
    with pytest.raises(ProfileError, match=r"model\.latent_size: is 10 in this run and cannot become 3"):
        run_of_this_job(begun.profile, ["model.latent_size=3"], environment, resume=begun)
    assert contents(begun) == before
    run, _ = run_of_this_job(begun.profile, ["train.epochs=9"], environment, resume=begun)
    assert run.path == begun.path
    assert [entry["job_id"] for entry in read_json(run.job)["submissions"]] == ["12", "13"]
    after = contents(begun)
    again, _ = run_of_this_job(
        begun.profile, ["train.epochs=9"], {**environment, "SLURM_RESTART_COUNT": "1"}, resume=begun
    )
    assert again.path == begun.path
    assert contents(begun) == after


def test_a_run_that_has_lost_its_profile_is_named_with_a_way_out(folder, begun):
    begun.profile.unlink()
    process = submit("--resume", str(begun.path))
    _, errors = process.communicate()
    assert process.returncode == 2
    assert "has no profile.yaml any more; put it back" in errors
    assert "train.init_from" in errors


@pytest.mark.parametrize("state", ["[]", "{", '{"progress": {"step": null}, "data": {"num_train": "x"}}', "\xff"])
def test_a_damaged_checkpoint_does_not_stop_the_check_of_a_resume(folder, begun, state):
    from hpctrain.launch.resume import read_saved, resume_problems
    from hpctrain.profile.load import load_profile

    checkpoint = begun.checkpoints / "step-00000008"
    checkpoint.mkdir()
    (checkpoint / "state.json").write_bytes(state.encode("latin1"))
    (checkpoint / "MANIFEST.json").write_text('{"sha256": "x"}')
    assert read_saved(begun).step == 0
    assert resume_problems(begun, load_profile(begun.profile), []) == []
