"""A file that cannot be completed: one clear line where the disk is full, and nothing is left there."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.ingest.writer import SpectraWriter
from hpctrain.kinds.spectra.section import SimulateSection
from hpctrain.kinds.spectra.simulate import simulate


@pytest.fixture
def small_disk(make_disk):
    return make_disk(600)


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


def test_an_ingest_that_is_killed_leaves_nothing(tmp_path):
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from hpctrain.ingest.writer import SpectraWriter\n"
        "rows = np.ones((2000, 280), np.float32)\n"
        "with SpectraWriter(Path(sys.argv[1]), np.linspace(3600, 9800, 280)) as writer:\n"
        "    writer.append(rows, rows, {})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    folder = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", program, str(folder / "a.h5")])
    assert done.returncode == -signal.SIGKILL
    assert list(folder.iterdir()) == []
