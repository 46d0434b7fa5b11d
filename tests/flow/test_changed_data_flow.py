"""Data files that are cut off, replaced or removed while a run reads them: the run ends and names the file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from hpctrain.launch.history import read_history
from hpctrain.rundir import write_json

LONG = {"epochs": 1_000_000}
"""Nothing but the data ends such a run."""


@pytest.fixture
def own_file(tmp_path, spectra_file):
    path = tmp_path / "own.h5"
    shutil.copyfile(spectra_file, path)
    return path


def failure(run):
    return next(record for record in run.read_metrics("event") if record["event"] == "failed")


def test_a_file_that_is_replaced_in_mid_run_ends_it_with_a_data_error(make_run, start, own_file, spectra_file):
    run = make_run(data={"files": [str(own_file)]}, train=LONG)
    ranks = start(run)
    ranks.wait_for_step(3)
    shutil.copyfile(spectra_file, own_file.with_suffix(".new"))
    os.replace(own_file.with_suffix(".new"), own_file)
    assert ranks.wait() == [4], ranks.stderr
    assert f"{own_file}: was changed or replaced while it is being read" in ranks.stderr
    assert "Traceback" not in ranks.stderr
    assert failure(run)["exit_code"] == 4


def test_a_file_that_is_removed_in_mid_run_ends_it_with_a_data_error_on_all_ranks(make_run, start, own_file):
    run = make_run(data={"files": [str(own_file)]}, launch={"ranks_per_node": 2}, train=LONG | {"accumulation": 1})
    ranks = start(run, 2)
    ranks.wait_for_step(3)
    own_file.unlink()
    codes = ranks.wait()
    assert 4 in codes, ranks.stderr
    assert set(codes) <= {4, 76}  # the other one loses its peer, if it does not look first
    assert f"{own_file}: no longer readable while it is being read" in ranks.stderr


def test_a_chunk_that_is_overwritten_in_mid_run_ends_it_with_a_data_error(make_run, start, own_file):
    """In place and with the same size: what notices is the time of the change, or the filter."""
    with h5py.File(own_file, "a") as file:
        flux = file["flux"][:]
        del file["flux"]
        file.create_dataset("flux", data=flux, chunks=(10, flux.shape[1]), compression="gzip", fletcher32=True)
        chunks = [file["flux"].id.get_chunk_info(number) for number in range(30)]
    run = make_run(data={"files": [str(own_file)], "shuffle_window": 32}, train=LONG)
    ranks = start(run)
    ranks.wait_for_step(3)
    with open(own_file, "r+b") as stream:
        for chunk in chunks:
            stream.seek(chunk.byte_offset)
            stream.write(np.random.default_rng(1).bytes(chunk.size))
    assert ranks.wait() == [4], ranks.stderr
    assert str(own_file) in failure(run)["error"]


def test_a_file_that_is_cut_off_in_mid_run_is_not_tried_for_ever(make_run, own_file):
    """To touch a page that is gone kills the process (SIGBUS); the next attempt finds out why, and is the last."""
    run = make_run(data={"files": [str(own_file)]}, train=LONG)
    run.make_folders()
    job = {"world_size": 1, "trainer": [sys.executable, "-m", "hpctrain.train"], "environment": {}}
    limits = {"requeue": True, "max_attempts": 20, "max_attempts_without_progress": 5}
    write_json(run.job, job | limits)
    with subprocess.Popen(
        [sys.executable, "-m", "hpctrain.launch.supervisor", str(run.path)], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        try:
            while max((record["step"] for record in run.read_metrics("train")), default=0) < 3:
                assert supervisor.poll() is None
            os.truncate(own_file, 8192)
            output, _ = supervisor.communicate(timeout=600)
        finally:
            supervisor.kill()
    assert supervisor.returncode == 4, output
    ended = [(item.exit_code, item.followed) for item in read_history(run)]
    # Once a second the size is looked at; a rank that happens to look first needs no second attempt.
    assert ended in ([(135, "requeued"), (4, "failed")], [(4, "failed")])
    assert f"{own_file}: truncated" in failure(run)["error"] or "was changed or replaced" in failure(run)["error"]
