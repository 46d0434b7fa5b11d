"""The parts of an audit against other ways to compute the same."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord, search_around_sky
from scipy.stats import binomtest

from hpctrain.families.labels.section import LabelSection
from hpctrain.kinds.leaks import name_gives_away
from hpctrain.samples.split import TEST, TRAIN, VALIDATION
from hpctrain.validation.audit import sky, twins
from hpctrain.validation.audit.chance import chance_of
from hpctrain.validation.audit.columns import power_of
from hpctrain.validation.audit.inputs import Inputs, hash_rows, of_table
from hpctrain.validation.audit.near_rows import dimensions_of
from hpctrain.validation.audit.near_wide import fine_structure
from hpctrain.validation.audit.same_noise import are_copies, same_noise
from hpctrain.validation.audit.spill import Spill
from hpctrain.validation.audit.twins import all_twins, held_out_twins


def test_the_chance_of_an_excess_is_that_of_the_binomial_test():
    share = 0.04 / 1.04
    expected = binomtest(7, 50, share, alternative="greater").pvalue
    assert chance_of(7, 43, 0.04) == pytest.approx(expected)
    assert chance_of(0, 43, 0.04) == 1.0


@pytest.mark.parametrize("centre", [(0.0, 0.0), (180.0, 89.999), (10.0, -89.999)], ids=["ra 0", "north", "south"])
def test_pairs_on_the_sky_are_those_of_astropy(centre, monkeypatch):
    monkeypatch.setattr(sky, "ROWS_OF_BAND", 50)  # several bands
    rng = np.random.default_rng(1)
    ra = (centre[0] + rng.normal(0, 0.002, 300) / np.cos(np.radians(centre[1]))) % 360
    dec = np.clip(centre[1] + rng.normal(0, 0.002, 300), -90, 90)
    order = np.argsort(dec)
    ra, dec, side = ra[order], dec[order], rng.choice([TRAIN, VALIDATION, TEST], 300).astype(np.uint8)
    pairs, outer = sky.count_pairs(ra, dec, side, 1.0)
    places = SkyCoord(ra, dec, unit="deg")
    first, second, distance, _ = search_around_sky(places, places, outer * units.arcsec)
    use = (first < second) & (side[first] != side[second])
    apart = distance.arcsec[use]
    assert pairs.close.tolist() == [(apart <= limit).sum() for limit in (0.1, 1 / 3, 1.0)]
    assert pairs.ring == ((apart > 5) & (apart <= outer)).sum()
    listed = np.concatenate(pairs.listed)
    found = {frozenset(pair) for pair in zip(listed["first"].tolist(), listed["second"].tolist(), strict=True)}
    close = np.flatnonzero(use)[apart <= 1.0]
    assert found == {frozenset(pair) for pair in zip(first[close].tolist(), second[close].tolist(), strict=True)}


def test_records_on_disk_come_back_as_those_in_memory():
    rng = np.random.default_rng(2)
    records = np.empty(5000, np.dtype([("key", np.uint64), ("row", np.int64)]))
    records["key"], records["row"] = rng.integers(0, 900, 5000), np.arange(5000)
    found = []
    for part_bytes in (1 << 30, 8000):
        with Spill(records.dtype, len(records), part_bytes) as spill:
            for start in range(0, 5000, 700):
                spill.add(records[start : start + 700])
            parts = list(spill.parts())
            folder = spill._folder
        keys = [np.unique(part["key"]) for part in parts]
        assert sum(map(len, keys)) == len(np.unique(records["key"]))  # all records of a key are in one part
        found.append(np.sort(np.concatenate(parts), order=("key", "row")))
        assert folder is None or not folder.exists()
    assert np.array_equal(*found)


def test_each_held_out_row_gets_one_twin_on_another_side():
    key = np.array([1, 1, 1, 2, 2, 3, 4, 4])
    row = np.array([10, 11, 12, 20, 21, 30, 40, 41])
    side = np.array([VALIDATION, TRAIN, TEST, VALIDATION, TEST, TEST, TRAIN, TRAIN], np.uint8)
    assert held_out_twins(key, row, side).tolist() == [[10, 11], [12, 11], [21, 20]]


def test_all_pairs_of_a_key_on_two_sides_are_found_once(monkeypatch):
    monkeypatch.setattr(twins, "LARGEST_GROUP", 20)
    rng = np.random.default_rng(3)
    key, side = np.sort(rng.integers(0, 60, 300)), rng.integers(0, 2, 300).astype(np.uint8)
    wanted = {
        (second, first)
        for first in range(300)
        for second in range(first + 1, 300)
        if key[first] == key[second] and side[first] != side[second] and (key == key[first]).sum() <= 20
    }
    found = [tuple(pair) for pair in all_twins(key, side).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == wanted


@pytest.mark.parametrize("length", [3, 200])
def test_equal_rows_have_equal_hashes_and_others_do_not(length):
    values = np.random.default_rng(4).normal(size=(50, length)).astype(np.float32)
    changed = values.copy()
    changed[:, length // 2] = np.nextafter(changed[:, length // 2], np.float32(9))
    assert np.array_equal(hash_rows(values), hash_rows(values.copy()))
    assert len(np.unique(np.concatenate([hash_rows(values), hash_rows(changed)]))) == 100
    swapped = values[:, ::-1]
    assert not np.isin(hash_rows(np.ascontiguousarray(swapped)), hash_rows(values)).any()


def test_minus_zero_is_zero_and_missing_values_are_equal():
    first = of_table(np.array([[0.0, 1.0, np.nan]], np.float32))
    second = of_table(np.array([[-0.0, 1.0, np.inf]], np.float32))
    assert first.hashes() == second.hashes()


def _spectra(rng, signal):
    sigma = np.full(signal.shape, 0.1)
    return Inputs((signal + sigma * rng.normal(size=signal.shape)).astype(np.float32), 1 / sigma**2, True)


def test_two_observations_of_one_object_are_no_copies_and_a_scaled_tilted_one_is():
    rng = np.random.default_rng(5)
    signal = 1 + rng.random((20, 1)) * np.sin(np.linspace(0, 9, 400))
    first, again = _spectra(rng, signal), _spectra(rng, signal)
    chi2, count = same_noise(first, again)
    assert np.all((chi2 > 0.6) & (chi2 < 1.5))
    assert not are_copies(chi2, count, 1.0).any()
    tilt = 2 + 0.3 * np.linspace(-1, 1, 400)
    copy = Inputs((first.values * tilt).astype(np.float32), first.weight / 4, True)
    copy.values[:, 7] = 1e30  # a flipped bit
    chi2, count = same_noise(first, copy)
    assert chi2.max() < 0.01
    assert are_copies(chi2, count, 1.0).all()


def test_a_few_points_in_common_are_too_few_to_call_a_copy():
    rng = np.random.default_rng(6)
    first, again = (_spectra(rng, np.ones((400, 9))) for _ in range(2))
    chi2, count = same_noise(first, again)
    assert (chi2 < 0.25).sum() > 10  # by chance
    assert not are_copies(chi2, count, 1.0).any()


def test_fine_structure_has_no_slope_and_ignores_what_is_masked():
    values = np.linspace(0, 50, 101)[None] + np.where(np.arange(101) == 50, 7.0, 0.0)
    weight = np.ones((1, 101))
    weight[0, 20] = 0
    values[0, 20] = 1e9
    fine = fine_structure(values, weight)
    assert fine[0, 50] == pytest.approx(7 * 14 / 15, abs=1e-4)
    assert fine[0, 20] == 0
    assert abs(fine[0, 70]) < 1e-4


@pytest.mark.parametrize("wanted", [2, 4])
def test_the_dimensions_of_points_in_a_cube_are_found(wanted):
    values = np.random.default_rng(7).random((3000, wanted))
    padded = np.concatenate([values, values[:, :1]], axis=1)  # a column that follows from another adds none
    assert dimensions_of(padded, 1e-4) == pytest.approx(wanted, abs=0.4)


@pytest.mark.parametrize(
    ("kind", "more", "truth"),
    [
        ("value", {}, lambda x: np.exp(3 * x)),
        ("class", {}, lambda x: np.where(x > 0.5, "A", "B")),
        ("circular", {"period": 360.0}, lambda x: 360 * x),
    ],
)
def test_a_column_that_decides_the_label_has_power_one_and_noise_has_none(kind, more, truth):
    rng = np.random.default_rng(8)
    x = rng.random(1000)
    label = LabelSection(column="y", kind=kind, **more)
    assert power_of(x, truth(x), label) > 0.98
    assert power_of(rng.random(1000), truth(x), label) < 0.3
    x[::3] = np.nan
    assert power_of(x[:50], truth(x)[:50], label) != power_of(x, truth(x), label)  # too few rows: NaN


def test_that_a_value_is_missing_can_give_a_class_away():
    rng = np.random.default_rng(9)
    truth = np.where(rng.random(500) > 0.5, "A", "B")
    column = np.where(truth == "A", np.nan, rng.normal(size=500))
    assert power_of(column, truth, LabelSection(column="y", kind="class")) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "label", "kind", "others", "is_named"),
    [
        ("Z_ERR", "redshift", "value", (), True),
        ("z_err", "redshift", "value", ("g", "r", "z"), False),
        ("zwarning", "Z", "density", (), True),
        ("z", "zs", "density", ("u", "g", "r", "i", "z"), False),
        ("subclass", "class", "class", (), True),
        ("DESI_TARGET", "spectype", "class", (), True),
        ("g", "class", "class", (), False),
        ("z_spec", "class", "class", (), False),
        ("teff_err", "teff", "value", (), True),
        ("teff", "teff", "value", (), True),
        ("size", "colour", "value", (), False),
    ],
)
def test_names_that_hold_a_label(name, label, kind, others, is_named):
    assert (name_gives_away(name, label, kind, others) is not None) == is_named
