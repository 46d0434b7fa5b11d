"""`hpctrain data` on real files, as a user calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from kinds.spectra import write_file

from hpctrain.kinds.spectra.section import SimulateSection
from hpctrain.kinds.spectra.simulate import simulate


def test_a_slow_file_is_examined_repacked_as_advised_and_verified(hpctrain, simulated_file, tmp_path):
    slow, fast = tmp_path / "slow.h5", tmp_path / "slow-fast.h5"
    assert hpctrain("data", "repack", simulated_file, "--out", slow, "--compression", "gzip").returncode == 0
    seen = hpctrain("data", "doctor", slow)
    assert seen.returncode == 0, seen.stderr
    assert "gzip is slow to decode" in seen.stdout
    advice = next(line for line in seen.stdout.splitlines() if "data repack" in line)
    done = subprocess.run(
        [sys.executable, "-m", *advice.partition("#")[0].split()], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "verified  12 columns" in done.stdout
    again = hpctrain("data", "doctor", fast, "--full")
    assert "nothing to repack" in again.stdout
    assert "12 of 12 hashed columns are unchanged" in again.stdout
    assert hpctrain("data", "verify", slow, fast).returncode == 0


def test_figures_come_as_json(hpctrain, simulated_file):
    facts = json.loads(hpctrain("data", "doctor", simulated_file, "--json").stdout)
    assert facts["num_spectra"] == 400
    assert facts["values"]["num_rows"] == 400
    assert facts["findings"] == []


def test_all_bad_files_are_named_at_once_with_exit_code_4(hpctrain, simulated_file, tmp_path):
    (tmp_path / "text.h5").write_text("no spectra here")
    (tmp_path / "cut.h5").write_bytes(simulated_file.read_bytes()[:100_000])
    for action in (["doctor"], ["repack", "--out", tmp_path / "out.h5"], ["verify"]):
        done = hpctrain("data", *action, tmp_path / "text.h5", tmp_path / "cut.h5", simulated_file)
        assert done.returncode == 4
        assert "text.h5: not an HDF5 file" in done.stderr
        assert "cut.h5: truncated" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.h5").exists()


def test_a_flipped_bit_is_found(hpctrain, simulated_file, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(simulated_file.read_bytes())
    with h5py.File(path) as file:
        at = file["ivar"].id.get_offset() + 777
    with open(path, "r+b") as stream:
        stream.seek(at)
        stream.write(b"\x55")
    for action in (["verify"], ["doctor", "--full"]):
        done = hpctrain("data", *action, path)
        assert done.returncode == 4
        assert "ivar: differs from its SHA-256" in done.stdout


def test_a_file_without_hashes_does_not_pass_for_verified(hpctrain, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["flux"] = [[1.0]]
    done = hpctrain("data", "verify", tmp_path / "a.h5")
    assert done.returncode == 4
    assert "not hashed" in done.stdout


def test_wrong_options_are_named_with_exit_code_2(hpctrain, simulated_file, tmp_path):
    done = hpctrain(
        "data", "repack", simulated_file, "--out", tmp_path / "o.h5", "--layout", "contiguous", "--compression", "gzip"
    )
    assert done.returncode == 2
    assert "gzip needs chunks" in done.stderr
    assert hpctrain("data", "doctor", simulated_file, "--column", "nonsense").returncode == 2


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "in.h5"
    simulate(path, SimulateSection(num_spectra=4000, num_pixels=500))
    return path


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_repack_that_is_stopped_leaves_nothing_that_could_be_taken_for_a_file(tmp_path, large_file, number):
    (tmp_path / "in.h5").symlink_to(large_file)
    out = tmp_path / "out.h5"
    command = [sys.executable, "-m", "hpctrain", "data", "repack", tmp_path / "in.h5", "--out", out]
    child = subprocess.Popen([*command, "--compression", "gzip"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end_s = time.monotonic() + 600
    while not list(tmp_path.glob(".out.h5.*.repack")) and child.poll() is None and time.monotonic() < end_s:
        time.sleep(0.005)
    assert child.poll() is None, "it ended before it could be stopped"
    child.send_signal(number)
    _, errors = child.communicate()
    assert child.returncode != 0
    assert b"Traceback" not in errors
    assert not out.exists()
    left = [path.name for path in tmp_path.iterdir() if path.name != "in.h5"]
    assert all(name.startswith(".") for name in left)
    assert bool(left) == (number == signal.SIGKILL)
    if left:
        again = subprocess.run(command, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert sorted(os.listdir(tmp_path)) == ["in.h5", "out.h5"]


def test_more_files_than_a_shell_allows_become_one(tmp_path):
    (tmp_path / "many").mkdir()
    for number in range(100):
        flux, ids = np.full((2, 8), number + 1.0, "f4"), np.array([2 * number, 2 * number + 1])
        write_file(tmp_path / "many" / f"{number:03}.h5", flux, ivar=flux, target_id=ids)
    limited = f"ulimit -Sn 64; exec {sys.executable} -m hpctrain data"
    done = subprocess.run(
        ["bash", "-c", f"{limited} repack 'many/*.h5' --out one.h5"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "one.h5") as file:
        assert file["target_id"][:].tolist() == list(range(200))
    seen = subprocess.run(["bash", "-c", f"{limited} doctor 'many/*.h5'"], cwd=tmp_path, capture_output=True, text=True)
    assert "100 files of 0.0 MB on average" in seen.stdout, seen.stderr


@pytest.mark.shared_data
def test_real_spectra_of_desi_become_one_file(hpctrain, shared_data, tmp_path):
    pattern = shared_data / "desi_coadd" / "mmu_style" / "edr" / "*" / "*.hdf5"
    done = hpctrain("data", "repack", pattern, "--out", tmp_path / "out.h5", "--quantise")
    assert done.returncode == 0, done.stderr
    rms = float(done.stdout.partition("flux off by ")[2].split()[0])
    assert 0.02 < rms <= 0.03
    seen = hpctrain("data", "doctor", tmp_path / "out.h5", "--full")
    assert seen.returncode == 0, seen.stderr
    assert "14 spectra of 7,781 pixels" in seen.stdout
