"""An object never changes sides."""

import numpy as np
import pytest
from astropy import units

from hpctrain.errors import DataError
from hpctrain.profile.sections.data import SplitSection
from hpctrain.samples.split import TEST, TRAIN, VALIDATION, assign_folds, assign_split, choose_rows

IDS = np.arange(39_627_000_000_000, 39_627_000_000_000 + 50_000)


def test_shares_are_what_the_profile_says():
    side = assign_split(IDS, SplitSection(validation=0.1, test=0.2))
    assert np.bincount(side, minlength=3) / len(IDS) == pytest.approx([0.7, 0.1, 0.2], abs=0.01)


def test_all_rows_of_an_object_are_on_one_side_and_new_data_move_none():
    split = SplitSection(validation=0.3)
    before = assign_split(IDS[:100], split)
    after = assign_split(np.concatenate([IDS[::-1], IDS[:100]]), split)
    assert np.array_equal(before, after[-100:])
    assert np.array_equal(after[:-100][::-1][:100], before)


def test_a_larger_validation_share_keeps_those_held_out_and_touches_no_test_object():
    small = assign_split(IDS, SplitSection(validation=0.1, test=0.1))
    large = assign_split(IDS, SplitSection(validation=0.3, test=0.1))
    assert (large[small == VALIDATION] == VALIDATION).all()
    assert np.array_equal(large == TEST, small == TEST)


def test_no_share_holds_nobody_out():
    assert (assign_split(IDS, SplitSection(validation=0.0)) == TRAIN).all()


def test_other_salt_other_split():
    one = assign_split(IDS, SplitSection(validation=0.5))
    other = assign_split(IDS, SplitSection(validation=0.5, salt="again"))
    assert (one == other).mean() == pytest.approx(0.5, abs=0.02)


def test_the_split_is_the_same_on_every_machine_and_version():
    """A change here moves test objects of existing runs into training: do not change these numbers."""
    side = assign_split(np.arange(-3, 17), SplitSection(validation=0.3, test=0.3))
    assert side.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 2, 0, 1, 2, 1]


def test_fewer_spectra_are_a_part_of_more_whatever_else_is_in_the_set():
    rows = np.flatnonzero(IDS % 3 == 0)
    few, more = (choose_rows(IDS, rows, count, "hpctrain") for count in (100, 1000))
    assert len(few) == 100
    assert set(few) < set(more) < set(rows)
    assert choose_rows(IDS, rows, None, "hpctrain") is rows


class Columns:
    """Columns of made-up files, by name."""

    def __init__(self, **columns):
        self.columns = columns

    def __call__(self, name):
        return self.columns[name]


def split_of(**keys):
    return SplitSection.model_validate(keys)


def test_folds_hold_out_each_object_once_and_test_objects_never():
    held = np.zeros(len(IDS), dtype=int)
    for fold in range(5):
        side = assign_split(IDS, split_of(folds=5, fold=fold, test=0.2))
        held += side == VALIDATION
        assert np.mean(side == VALIDATION) == pytest.approx(0.16, abs=0.01)
    test = assign_split(IDS, split_of(test=0.2)) == TEST
    assert np.array_equal(held, np.where(test, 0, 1))


def test_a_test_fold_is_the_fold_of_that_number_and_the_others_keep_theirs():
    split = split_of(folds=4, test_fold=1, fold=3)
    folds, side = assign_folds(IDS, split), assign_split(IDS, split)
    assert np.array_equal(side == TEST, folds == 1)
    assert np.array_equal(side == VALIDATION, folds == 3)


def test_without_a_fold_the_share_of_validation_comes_from_all_folds_but_the_test():
    split = split_of(folds=4, test_fold=0, validation=0.2)
    folds, side = assign_folds(IDS, split), assign_split(IDS, split)
    shares = [np.mean(side[folds == fold] == VALIDATION) for fold in range(4)]
    assert shares == pytest.approx([0.0, 0.2, 0.2, 0.2], abs=0.015)


def test_the_folds_are_the_same_on_every_machine_and_version():
    """A change here moves held-out objects of existing runs into training: do not change these numbers."""
    folds = assign_folds(np.arange(20), split_of(folds=4, test=0.2))
    assert folds.tolist() == [3, 2, 2, 2, 1, 3, 1, 3, -1, 2, 1, 2, -1, 2, 0, -1, 0, 0, 2, -1]


def sky(number):
    rng = np.random.default_rng(1)
    return Columns(ra=rng.uniform(0, 360, number), dec=np.degrees(np.arcsin(rng.uniform(-1, 1, number))))


def test_all_objects_of_a_cell_of_the_sky_stay_together():
    healpix = pytest.importorskip("astropy_healpix")
    columns = sky(20_000)
    split = split_of(by="sky", nside=8, folds=5, fold=2)
    side = assign_split(np.arange(20_000), split, columns)
    ra, dec = columns("ra") * units.deg, columns("dec") * units.deg
    cells = healpix.HEALPix(8, order="nested").lonlat_to_healpix(ra, dec)
    for cell in np.unique(cells):
        assert len(np.unique(side[cells == cell])) == 1
    assert np.mean(side == VALIDATION) == pytest.approx(0.2, abs=0.05)


def test_all_objects_of_a_field_stay_together_and_an_object_in_two_fields_goes_with_its_first():
    plates = np.array([b"plate-%d" % (index // 40) for index in range(4000)])
    ids = np.arange(4000)
    ids[3999] = 0
    side = assign_split(ids, split_of(by="field", column="PLATE", folds=4, fold=1), Columns(PLATE=plates))
    for plate in np.unique(plates):
        assert len(np.unique(side[(plates == plate) & (np.arange(4000) < 3999)])) == 1
    assert side[3999] == side[0]


def test_the_latest_objects_are_the_test_and_those_before_them_the_validation():
    mjd = np.random.default_rng(2).permutation(1000).astype(float)
    side = assign_split(np.arange(1000), split_of(by="time", column="MJD", validation=0.1, test=0.2), Columns(MJD=mjd))
    assert mjd[side == TEST].min() > mjd[side == VALIDATION].max()
    assert mjd[side == VALIDATION].min() > mjd[side == TRAIN].max()
    assert np.bincount(side).tolist() == [700, 100, 200]


def test_folds_of_time_follow_each_other():
    mjd = np.random.default_rng(2).permutation(1000).astype(float)
    folds = assign_folds(np.arange(1000), split_of(by="time", column="MJD", folds=4), Columns(MJD=mjd))
    assert np.array_equal(folds, (mjd // 250).astype(int))


@pytest.mark.parametrize("missing", [False, True])
def test_each_fold_has_the_same_share_of_each_class(missing):
    labels = np.array([b"star"] * 900 + [b"galaxy"] * 90 + [b"" if missing else b"qso"] * 10)
    folds = assign_folds(np.arange(1000), split_of(stratify="CLASS", folds=5), Columns(CLASS=labels))
    for name, count in ((b"star", 180), (b"galaxy", 18), (labels[-1], 2)):
        assert np.bincount(folds[labels == name]).tolist() == [count] * 5


def test_each_fold_has_the_same_share_of_each_tenth_of_the_redshift():
    redshift = np.random.default_rng(3).exponential(size=2000)
    redshift[:100] = np.nan
    folds = assign_folds(np.arange(2000), split_of(stratify="Z", folds=4), Columns(Z=redshift))
    highest = np.argsort(redshift[100:])[-190:] + 100
    assert all(abs(np.count_nonzero(folds[highest] == fold) - 47.5) <= 1 for fold in range(4))
    assert np.bincount(folds[:100]).tolist() == [25] * 4


def test_the_only_object_of_a_class_can_be_in_any_fold():
    labels = np.array([f"class {index}" for index in range(2000)], dtype=object)
    folds = assign_folds(np.arange(2000), split_of(stratify="CLASS", folds=4), Columns(CLASS=labels))
    assert np.bincount(folds).min() > 400


def test_a_row_without_a_time_is_an_error_that_says_which():
    mjd = np.array([1.0, 2.0, np.nan, 4.0])
    with pytest.raises(DataError, match=r"MJD: 1 of 4 rows have no number there \(first: row 2\)"):
        assign_split(np.arange(4), split_of(by="time", column="MJD"), Columns(MJD=mjd))
