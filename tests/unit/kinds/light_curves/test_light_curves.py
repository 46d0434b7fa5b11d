"""Light curves as samples: layout, bands, padding, long curves, phases, bad points, changes at random, simulation."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from kinds.light_curves import tiny_file, write_file

from hpctrain.errors import DataError
from hpctrain.kinds.light_curves.kind import KIND
from hpctrain.kinds.light_curves.section import AugmentCurvesSection, LightCurveSection, SimulateCurvesSection
from hpctrain.kinds.light_curves.transform import augment, cut_after, normalise

NAN = np.nan
SHORT = ([0.0, 1.0, 2.5], [10.0, 11.0, 12.0], [0.1, 0.1, 0.1], [0, 1, 0])
LONG = (np.arange(40) + 58000.25, np.arange(40) / 10, np.full(40, 0.2), np.arange(40) % 2)


def arrays(*curves):
    return [[np.asarray(part, dtype=float) for part in curve] for curve in curves]


def section(*paths: Path, **keys: object) -> LightCurveSection:
    return LightCurveSection(**{"files": [str(path) for path in paths], "bands": ["g", "r"], **keys})


def prepared(path: Path, rows: list[int], **keys: object):
    data = section(path, **keys)
    return KIND.preparation(data.card_entries)(KIND.open(data).read(np.array(rows)))


def test_curves_of_several_files_are_read_and_padded_in_the_order_of_the_request(tmp_path):
    first = write_file(tmp_path / "a.h5", arrays(SHORT), "gr", target_id=np.array([7]))
    second = write_file(tmp_path / "b.h5", arrays(LONG, SHORT), "rg", target_id=np.array([8, 9]))
    batch = KIND.open(section(first, second)).read(np.array([2, -1, 1, 0]))
    assert batch.target_id.tolist() == [9, -1, 8, 7]
    assert batch.exists.sum(dim=1).tolist() == [3, 0, 40, 3]
    assert batch["time"][2, :3].tolist() == [0, 1, 2]
    assert batch["value"][3, :4].tolist() == [10, 11, 12, 0]
    assert batch["band"][3, :4].tolist() == [0, 1, 0, -1]
    assert batch["band"][0, :4].tolist() == [1, 0, 1, -1], "the second file counts its bands the other way"
    assert batch["time"].shape == (4, 40)


@pytest.mark.parametrize("layout", [{"chunks": (7,), "compression": "gzip"}, {"dtype": ">f4"}])
def test_a_file_that_cannot_be_mapped_gives_the_same_curves(tmp_path, layout):
    path = tiny_file(tmp_path / "a.h5")
    rows = np.array([3, 1, 9])
    expected = KIND.open(section(path)).read(rows)
    with h5py.File(path, "r+") as file:
        values = file["value"][...]
        del file["value"]
        file.create_dataset("value", data=values, **layout)
    found = KIND.open(section(path)).read(rows)
    for name in ("time", "value", "error", "band"):
        assert torch.equal(found[name], expected[name])


@pytest.mark.parametrize("keys", [{}, {"bands": ["r"]}, {"max_points": 30, "fold": "period"}])
def test_long_curves_are_read_as_short_ones_are(tmp_path, keys, monkeypatch):
    paths = [tiny_file(tmp_path / "a.h5"), tmp_path / "b.h5"]
    bad = (np.array([NAN, 1.0, 2.0]), np.ones(3), np.ones(3), np.array([1, 0, 1]))
    write_file(paths[1], arrays(LONG, bad, LONG), "rg", target_id=np.arange(3), period=np.array([3.0, 2.0, NAN]))
    rows = np.array([60, 3, 61, -1, 62, 0])
    short = KIND.open(section(*paths, **keys)).read(rows)
    monkeypatch.setattr("hpctrain.kinds.light_curves.samples.LONG_CURVE", 0)
    long = KIND.open(section(*paths, **keys)).read(rows)
    for name, values in short.columns.items():
        torch.testing.assert_close(long[name], values, rtol=0, atol=0, equal_nan=True)


def test_bands_that_are_not_asked_for_are_left_out_and_counted(tmp_path):
    samples = KIND.open(section(write_file(tmp_path / "a.h5", arrays(SHORT, LONG), "gr"), bands=["r", "u"]))
    assert samples.num_points.tolist() == [1, 20]
    assert samples.read(np.array([1]))["value"][0, :3].tolist() == pytest.approx([0.1, 0.3, 0.5])
    assert "left out: g 22" in samples.notes[0]
    assert "no file has points in u" in samples.notes[1]
    assert samples.usable(np.array([0, 1])).tolist() == [False, True]


@pytest.mark.parametrize(("long", "first", "last"), [("first", 0.0, 0.7), ("last", 3.2, 3.9), ("thin", None, None)])
def test_a_long_curve_loses_points_by_its_object_alone(tmp_path, long, first, last):
    path = write_file(tmp_path / "a.h5", arrays(SHORT, LONG, LONG), "gr", target_id=np.array([1, 2, 3]))
    samples = KIND.open(section(path, max_points=8, long=long))
    one, two = samples.read(np.array([1]))["value"][0], samples.read(np.array([2, 1]))["value"]
    assert torch.equal(one, two[1])
    assert one.shape == (8,)
    assert (one.diff() > 0).all()
    if first is not None:
        assert [float(one[0]), float(one[-1])] == pytest.approx([first, last])
    else:
        assert one.diff().max() < 0.8
        assert not torch.equal(two[0], two[1]), "another object keeps other points"


def test_phases_follow_from_a_column_with_periods(tmp_path):
    path = write_file(tmp_path / "a.h5", arrays(SHORT, LONG), "gr", period=np.array([2.0, -1.0]))
    samples = KIND.open(section(path, fold="period"))
    batch = samples.read(np.array([0, 1]))
    assert batch["phase"][0, :3].tolist() == [0.0, 0.5, 0.25]
    assert torch.isnan(batch["phase"][1, :40]).all()
    facts = KIND.facts(samples, np.array([0, 1]))
    assert KIND.read_facts(facts.to_json()) == facts
    assert "without data.fold" in (KIND.facts(KIND.open(section(path)), np.array([0])).difference(samples) or "")


def test_prepared_curves_have_mean_0_scatter_1_and_no_bad_points(tmp_path):
    bad = ([0.0, 1.0, NAN, 3.0, 4.0, 5.0], [1.0, NAN, 1.0, 3.0, 1.0, 3.0], [0.1, 0.1, 0.1, 0.1, 0.0, 0.1], [0] * 6)
    path = write_file(tmp_path / "a.h5", arrays(SHORT, bad), "gr")
    batch = prepared(path, [1, 0, -1])
    assert batch["num_bad"].tolist() == [3, 0, 0]
    assert batch.exists[0].tolist() == [True] * 3 + [False] * 5
    assert batch["time"][0, :4].tolist() == [0, 3, 5, 0]
    values = batch["value"][0][batch.exists[0]]
    assert float(values.mean()) == pytest.approx(0, abs=1e-6)
    assert float(values.square().mean()) == pytest.approx(1)
    assert float(batch["scale"][0]) == pytest.approx(np.std([1, 3, 3]))
    assert KIND.count_bad(batch).tolist() == [3, 1, 0]
    [line] = KIND.describe_bad(KIND.open(section(path)), np.array([0, 1]))
    assert "row 1, target_id 1: time not finite in point 2; value not finite in point 1; error not above 0" in line


def test_each_band_of_a_curve_can_have_its_own_mean(tmp_path):
    batch = prepared(write_file(tmp_path / "a.h5", arrays(SHORT), "gr"), [0], normalise="band")
    assert batch["value"][0, :3].tolist() == pytest.approx([-1.2247, 0, 1.2247], abs=1e-4)
    batch = prepared(write_file(tmp_path / "b.h5", arrays(SHORT), "gr"), [0], normalise="none")
    assert batch["value"][0, :3].tolist() == [10, 11, 12]


def test_hiding_points_after_normalisation_is_as_if_they_had_never_been_there(tmp_path):
    data = section(tiny_file(tmp_path / "a.h5"))
    raw = KIND.open(data).read(np.arange(10))
    prepare = KIND.preparation(data.card_entries)
    before, after = prepare(cut_after(raw, 8.0)), prepare(raw)
    after = normalise(cut_after(after, 8.0), "curve", 2)
    for name in ("time", "value", "error", "band", "scale"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-4)
    assert float(before["time"].max()) <= 8.0


def test_random_changes_depend_on_torch_s_seed_alone_and_leave_no_curve_empty(tmp_path):
    batch = prepared(tiny_file(tmp_path / "a.h5"), list(range(60)))
    changes = AugmentCurvesSection(cut=0.5, drop=0.9, noise=0.3)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(augment(batch, changes, "curve", 2))
    assert torch.equal(found[0]["value"], found[1]["value"])
    assert not torch.equal(found[0]["value"], found[2]["value"])
    assert found[0].exists.any(dim=1).all()
    assert found[0].exists.sum() < 0.7 * batch.exists.sum()
    assert (found[0].exists.sum(dim=1) <= batch.exists.sum(dim=1)).all()
    assert KIND.augmentation(section(tmp_path / "a.h5")) is None


DAMAGE = {
    "offsets": ("offsets", np.array([0, 3, 2, 46]), "offsets: must rise from 0 to the number of points"),
    "unknown band": ("band", np.full(46, 5), "band: holds 5 to 5; the 2 names in bands are counted from 0"),
    "too few": ("error", np.ones(5), "error: has 5 values, but time has 46"),
    "texts": ("band", np.array([b"x"]), "one number per point is needed"),
    "more objects": ("target_id", np.arange(9), "offsets: has shape (4,); 9 curves need one more than that"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_an_error_that_names_file_and_dataset(tmp_path, case):
    name, values, message = DAMAGE[case]
    path = write_file(tmp_path / "a.h5", arrays(SHORT, LONG, SHORT), "gr", **{name: values})
    with pytest.raises(DataError) as caught:
        KIND.open(section(path))
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_another_kind_of_file_or_unknown_bands_are_errors_with_the_way_out(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["flux"] = np.ones((3, 4))
    with pytest.raises(DataError, match=r"it is no file of light curves\. `hpctrain ingest light-curves` makes one"):
        KIND.open(section(tmp_path / "a.h5"))
    path = write_file(tmp_path / "b.h5", arrays(SHORT), "gr", colour=np.array([b"red"]))
    with pytest.raises(DataError, match=r"has none of the bands U, B \(data.bands\); it has g, r"):
        KIND.open(section(path, bands=["U", "B"]))
    with pytest.raises(DataError, match=r"colour: holds texts such as 'red'; data\.features needs numbers"):
        KIND.open(section(path, features=["colour"]))


def test_check_sees_times_that_go_back_and_says_what_it_leaves_out(tmp_path):
    back = ([1.0, 0.0, 2.0], [1.0, 2.0, 3.0], [0.1] * 3, [0] * 3)
    data = section(write_file(tmp_path / "a.h5", arrays(LONG, back), "gri"), bands=["g", "i"], max_points=8)
    samples = KIND.open(data)
    found = KIND.inspect(samples, np.arange(2), data)
    assert [remark.code for remark in found.remarks] == ["unsorted", "long-curves", "no-band"]
    assert "1 of 2 curves have times that go back, such as row 1 of" in found.texts("error")[0]
    data = section(write_file(tmp_path / "b.h5", arrays(SHORT), "gr"), min_points=5)
    assert "no training curve has 5 points" in KIND.inspect(KIND.open(data), np.arange(1), data).texts("error")[0]


def test_simulated_curves_are_the_same_for_a_seed_and_as_noisy_as_their_errors_say(tmp_path):
    files = [tmp_path / f"{name}.h5" for name in ("one", "two", "other")]
    for path, seed in zip(files, (3, 3, 4), strict=True):
        KIND.make(path, SimulateCurvesSection(num_curves=60, seed=seed, points_per_band=60))
    with h5py.File(files[0]) as one, h5py.File(files[1]) as two, h5py.File(files[2]) as other:
        assert np.array_equal(one["value"], two["value"])
        assert not np.array_equal(one["value"][:100], other["value"][:100])
        names, offsets = one["class"].asstr()[...], one["offsets"][...]
        pulls = []
        for index in np.flatnonzero(names == "ECL"):
            points = slice(offsets[index], offsets[index + 1])
            value, error, band = one["value"][points], one["error"][points], one["band"][points]
            for number in range(3):
                own = value[band == number]
                bright = own > np.quantile(own, 0.6)  # outside of eclipses the flux is constant
                pulls.append((own[bright] - np.median(own[bright])) / error[band == number][bright])
        assert 0.4 < np.concatenate(pulls).std() < 1.2
    samples = KIND.open(section(files[0], bands=["g", "r", "i"]))
    assert not KIND.inspect(samples, np.arange(60), section(files[0], bands=["g", "r", "i"])).remarks
