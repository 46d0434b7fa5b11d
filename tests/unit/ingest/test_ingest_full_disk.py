"""A disk that fills up while a file is written: one clear line, nothing left there, and the process lives on."""

import subprocess

import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.ingest.simulate import simulate
from hpctrain.ingest.writer import SpectraWriter
from hpctrain.profile.schema import SimulateSection


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "hpctrain-test", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()} (needs root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_simulation_that_does_not_fit_says_so(small_disk):
    with pytest.raises(DataError, match="No space left on device; nothing was left there"):
        simulate(small_disk / "a.h5", SimulateSection(num_spectra=500, num_pixels=300))
    assert list(small_disk.iterdir()) == []


def test_an_ingest_that_does_not_fit_says_so(small_disk):
    """The spools fit, the copy of one of them beside both does not."""
    rows = np.ones((200, 280), np.float32)
    with SpectraWriter(small_disk / "a.h5", np.linspace(3600, 9800, 280)) as writer:
        writer.append(rows, rows, {})
        with pytest.raises(DataError, match="No space left on device; nothing was left there"):
            writer.finish({}, [])
    assert list(small_disk.iterdir()) == []
