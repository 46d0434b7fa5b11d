"""A share of the old training objects is trained on again, and all new ones."""

from __future__ import annotations

import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.profile.sections.data import DataSection
from hpctrain.samples.replay import replayed

IDS = np.arange(5000, dtype=np.int64)
OLD = IDS[:4000]


@pytest.fixture
def rows_of(tmp_path):
    np.save(tmp_path / "seen.npy", OLD)

    def rows(share, rows=IDS, seen="seen.npy"):
        replay = {"share": share, "seen": str(tmp_path / seen)}
        return replayed(IDS, rows, DataSection.model_validate({"files": ["x.h5"], "replay": replay}))

    return rows


def test_all_new_objects_stay_and_about_the_share_of_the_old_ones(rows_of):
    kept = rows_of(0.5)
    assert np.isin(IDS[4000:], kept).all()
    assert np.count_nonzero(kept < 4000) == pytest.approx(2000, abs=150)
    assert rows_of(0.0).tolist() == list(range(4000, 5000))
    assert rows_of(1.0).tolist() == IDS.tolist()


def test_a_larger_share_keeps_the_objects_of_a_smaller_one_and_other_rows_do_not_matter(rows_of):
    small, large = rows_of(0.2), rows_of(0.6)
    assert np.isin(small, large).all()
    assert rows_of(0.2, rows=IDS[::3]).tolist() == [row for row in small.tolist() if row % 3 == 0]


def test_a_file_that_is_no_list_of_identifiers_is_refused(rows_of, tmp_path):
    with pytest.raises(DataError, match=r"gone.npy: cannot be read"):
        rows_of(0.5, seen="gone.npy")
    np.save(tmp_path / "floats.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"floats.npy: holds no list of int64; data.replay.seen needs"):
        rows_of(0.5, seen="floats.npy")
