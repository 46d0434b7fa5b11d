"""A run directory damaged outside its checkpoints is still shown, and the run still continues with the same bits."""

from __future__ import annotations

import os
import shutil
import signal
import time
import traceback

import pytest
from attempts import log_of
from damage_run import add_launcher_files, damage
from test_resume_exact import records

from hpctrain.cli import main
from hpctrain.report.gather import gather_facts
from hpctrain.report.page import render_page
from hpctrain.rundir import RunDir

NUM_READ = int(os.environ.get("HPCTRAIN_DAMAGES", "60"))
"""Damages that are read; each costs a third of a second of CPU time."""
RESUMED = (3, 8, 17, 22, 31, 44)
"""Seeds of damages a run is resumed with: records, leases, heartbeats, measurements; links, folders, pipes, types."""
SECRET = "the private words of another user"


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "elsewhere" / "secret"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


def copy_of(run, folder, with_checkpoints=True):
    """Copy a run; without checkpoints only their manifests, which are what readers look at."""
    kept = None if with_checkpoints else shutil.ignore_patterns("*.safetensors", "state.json")
    shutil.copytree(run.path, folder / "runs" / run.name / run.run_id, symlinks=True, ignore=kept)
    return RunDir(folder / "runs" / run.name / run.run_id)


def test_no_damage_outside_the_checkpoints_stops_those_who_read(attempts, tmp_path, secret, capsys):
    straight = attempts.straight()
    whole = copy_of(straight, tmp_path / "whole", with_checkpoints=False)
    add_launcher_files(whole)
    failures = []
    for seed in range(NUM_READ):
        run = copy_of(whole, tmp_path / f"{seed}")
        what = damage(run, seed, secret)
        path, runs_dir = str(run.path), str(run.path.parents[1])
        commands = (
            ["status", path],
            ["status", path, "--json"],
            ["list", "--runs-dir", runs_dir],
            ["monitor", path, "--once"],
            ["logs", path],
            ["logs", path, "--batch", "-n", "1"],
            ["logs", path, "--list"],
            ["cancel", path],
        )
        for command in commands:
            try:
                code = main(command)
            except BaseException:
                failures.append(f"{what}: {command[0]}: {traceback.format_exc()}")
                continue
            if code not in (0, 2, 3) or (command[0] in ("list", "monitor") and code):
                failures.append(f"{what}: {command[0]}: exit code {code}")
        try:
            page = render_page(gather_facts(run))
            page.encode()
        except BaseException:
            failures.append(f"{what}: report: {traceback.format_exc()}")
            page = ""
        said = capsys.readouterr()
        if SECRET in page + said.out + said.err:
            failures.append(f"{what}: followed a link out of the run")
        shutil.rmtree(tmp_path / f"{seed}")
    assert not failures, f"{len(failures)} failures; the first:\n" + "\n".join(failures[:3])


def test_no_damage_outside_the_checkpoints_stops_a_run_or_changes_a_bit(attempts, tmp_path, secret):
    straight = attempts.straight()
    begun = attempts.new_run()
    assert attempts.cut(begun, signal.SIGUSR2, 10) == [75], log_of(begun)
    add_launcher_files(begun)
    expected = {kind: records(straight, kind) for kind in ("train", "eval")}
    for seed in RESUMED:
        run = copy_of(begun, tmp_path / f"{seed}")
        what = damage(run, seed, secret)
        resumed_at = time.time()
        assert attempts.attempt(run) == [0], f"{what}: {log_of(run)}"
        for kind in ("train", "eval"):
            made = [record for record in run.read_metrics(kind) if record["time"] >= resumed_at]
            first = 11 if kind == "train" else 10  # the stop came between step 10 and its evaluation
            assert [record["step"] for record in made] == [step for step in expected[kind] if step >= first], what
            for record in made:
                assert record.items() >= expected[kind][record["step"]].items(), what
        model = "model.safetensors"
        assert (run.model / model).read_bytes() == (straight.model / model).read_bytes(), what
        assert secret.read_text() == SECRET, what
        shutil.rmtree(tmp_path / f"{seed}")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name: [", b"3\n", b""], ids=["no text", "torn", "3", "empty"])
def test_a_damaged_profile_is_one_clear_error(attempts, tmp_path, content):
    run = copy_of(attempts.straight(), tmp_path)
    run.profile.write_bytes(content)
    assert attempts.attempt(run) == [2]
    said = log_of(run).splitlines()
    assert any("profile.yaml" in line for line in said)
    assert not any("Traceback" in line for line in said)
