"""A disk that fills up while a file is written: one clear line, nothing left there, and the process lives on."""

import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.ingest.simulate import simulate
from hpctrain.ingest.writer import SpectraWriter
from hpctrain.profile.schema import SimulateSection


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
