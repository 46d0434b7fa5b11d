"""A full disk is recognised whatever a library calls it, and a log on it costs lines and not the process."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from hpctrain.fulldisk import is_disk_full


def write_hdf5(folder):
    with h5py.File(folder / "x.h5", "w") as file:
        file["x"] = np.zeros(50_000)


WRITERS = {
    "plain": lambda folder: (folder / "x").write_bytes(b"x" * 100_000),
    "safetensors": lambda folder: save_file({"x": torch.zeros(50_000)}, folder / "x"),
    "hdf5": write_hdf5,
    "npz": lambda folder: np.savez(folder / "x.npz", x=np.zeros(50_000)),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_recognised_in_the_error_of_every_library(tiny_disk, write):
    with pytest.raises((OSError, RuntimeError, SafetensorError), match="No space left on device") as found:
        write(tiny_disk)
    assert is_disk_full(found.value)


def test_another_error_is_no_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError) as found:
        (tmp_path / "absent" / "x").write_bytes(b"x")
    assert not is_disk_full(found.value)


PRINTS = """
import sys
from hpctrain.fulldisk import tolerate_full_log
if sys.argv[1:]:
    tolerate_full_log()
for number in range(20_000):
    print("line", number, flush=True)
print("to standard error", file=sys.stderr)
sys.exit(3)
"""


def print_to(log, *arguments):
    with open(log, "ab") as stream:
        return subprocess.run([sys.executable, "-c", PRINTS, *arguments], stdout=stream, stderr=stream).returncode


@pytest.mark.slow
def test_a_process_goes_on_when_its_log_lies_on_a_full_disk(tiny_disk, tmp_path):
    assert print_to(tiny_disk / "log") == 1, "without help, print ends the process"
    (tiny_disk / "log").unlink()
    assert print_to(tiny_disk / "log", "tolerate") == 3
    assert (tiny_disk / "log").read_text().startswith("line 0\nline 1\n")
    assert print_to(tmp_path / "log", "tolerate") == 3
    assert (tmp_path / "log").read_text().splitlines()[-2:] == ["line 19999", "to standard error"]
