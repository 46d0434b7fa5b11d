"""Columns of files become numbers to learn; what is missing stays missing."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.families.labels.columns import read_labels, settle_label
from hpctrain.families.labels.section import LabelSection
from hpctrain.samples.arrays import ArraySamples


def samples_of(path: Path, **columns) -> ArraySamples:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
    num = len(next(iter(columns.values())))
    return ArraySamples([(path, num)], np.arange(num), {})


def settled(samples: ArraySamples, **keys) -> LabelSection:
    return settle_label(LabelSection(**keys), samples, np.arange(len(samples)), None)


def test_texts_become_the_numbers_of_sorted_classes_and_empty_or_named_texts_are_missing(tmp_path):
    names = np.array([b"STAR ", b"QSO", b"", b"GALAXY", b"SKY", b"QSO"])
    samples = samples_of(tmp_path / "a.h5", kind=names)
    label = settled(samples, column="kind", kind="class", missing=["SKY"])
    assert label.classes == ["GALAXY", "QSO", "STAR"]
    np.testing.assert_array_equal(read_labels([label], samples)["kind"], [2, 1, -1, 0, -1, 1])


def test_integers_can_be_classes_and_minus_one_is_missing(tmp_path):
    samples = samples_of(tmp_path / "a.h5", code=np.array([3, -1, 12, 3, -9999]))
    label = settled(samples, column="code", kind="class", missing=[-9999])
    assert label.classes == ["12", "3"]
    np.testing.assert_array_equal(read_labels([label], samples)["code"], [1, -1, 0, 1, -1])


def test_rare_classes_do_not_count(tmp_path):
    samples = samples_of(tmp_path / "a.h5", kind=np.array([b"A"] * 5 + [b"B"] * 4 + [b"C"]))
    label = settled(samples, column="kind", kind="class", min_count=2, class_weights="balanced")
    assert label.classes == ["A", "B"]
    assert label.class_weights == pytest.approx([0.9, 1.125])
    assert read_labels([label], samples)["kind"][-1] == -1


def test_classes_that_were_not_in_training_are_missing(tmp_path):
    label = settled(samples_of(tmp_path / "a.h5", kind=np.array([b"A", b"B"])), column="kind", kind="class")
    other = samples_of(tmp_path / "b.h5", kind=np.array([b"B", b"D", b"A"]))
    np.testing.assert_array_equal(read_labels([label], other)["kind"], [1, -1, 0])


def test_centre_and_scale_are_robust_and_in_the_logarithm_where_it_is_learned(tmp_path):
    samples = samples_of(tmp_path / "a.h5", teff=np.array([1e3, 1e4, 1e5, np.nan, -1.0]))
    label = settled(samples, column="teff", kind="value", log10=True)
    assert (label.centre, label.scale) == pytest.approx((4.0, 1.4826))
    np.testing.assert_array_equal(np.isnan(read_labels([label], samples)["teff"]), [False, False, False, True, True])


def test_a_label_whose_error_is_unknown_is_missing(tmp_path):
    samples = samples_of(tmp_path / "a.h5", z=np.array([0.1, 0.2, 0.3, 0.4]), z_err=np.array([0.01, np.nan, -1.0, 0.0]))
    label = settled(samples, column="z", kind="value", error="z_err")
    found = read_labels([label], samples)
    np.testing.assert_array_equal(np.isfinite(found["z"]), [True, False, False, True])
    np.testing.assert_array_equal(np.isfinite(found["z.error"]), [True, False, False, True])


def test_values_outside_the_grid_of_a_density_are_missing(tmp_path):
    samples = samples_of(tmp_path / "a.h5", z=np.array([-9999.0, 0.5, 5.0]))
    label = settled(samples, column="z", kind="density", range=(0.0, 4.0))
    np.testing.assert_array_equal(np.isnan(read_labels([label], samples)["z"]), [True, False, True])


def test_a_model_to_start_from_gives_its_classes_and_its_scale(tmp_path):
    before = settled(samples_of(tmp_path / "a.h5", kind=np.array([b"A", b"B", b"C"])), column="kind", kind="class")
    other = samples_of(tmp_path / "b.h5", kind=np.array([b"B", b"A", b"A"]))
    label = settle_label(LabelSection(column="kind", kind="class"), other, np.arange(3), before)
    assert label.classes == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("columns", "keys", "said"),
    [
        ({"spectype": [b"A", b"B"]}, {"column": "spectyp", "kind": "class"}, "did you mean 'spectype'?"),
        ({"x": [b"A", b"A"]}, {"column": "x", "kind": "class"}, "1 classes among the training samples"),
        ({"x": [b"A", b"B"]}, {"column": "x", "kind": "value"}, "holds texts such as 'A', not numbers"),
        ({"x": [0.5, 1.5]}, {"column": "x", "kind": "class"}, "holds numbers such as 0.5"),
        ({"x": [np.nan, np.nan]}, {"column": "x", "kind": "value"}, "no training sample has a value"),
        ({"x": [1.0, 1.0]}, {"column": "x", "kind": "density"}, "nothing to learn"),
        ({"x": [b"A", b"B"]}, {"column": "x", "kind": "class", "classes": ["Q", "R"]}, "it has 'A', 'B'"),
    ],
)
def test_a_column_that_cannot_be_learned_is_one_clear_error(tmp_path, columns, keys, said):
    samples = samples_of(tmp_path / "a.h5", **{name: np.array(values) for name, values in columns.items()})
    with pytest.raises(DataError) as error:
        settled(samples, **keys)
    assert said in str(error.value)
    assert keys["column"] in str(error.value)


def test_a_column_that_is_absent_from_some_files_names_all_of_them(tmp_path):
    paths = [
        samples_of(tmp_path / name, **{key: np.array([1.0, 2.0])})._files[0][0]
        for name, key in (("a.h5", "x"), ("b.h5", "y"), ("c.h5", "y"))
    ]
    samples = ArraySamples([(path, 2) for path in paths], np.arange(6), {})
    with pytest.raises(DataError) as error:
        samples.column("x")
    assert "b.h5: x: is not in the file" in str(error.value)
    assert "c.h5: x: is not in the file" in str(error.value)
    assert "a.h5" not in str(error.value)
