"""Rare training samples are repeated, each as often as the profile says, whatever else is in the set."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.profile.sections.data import DataSection
from hpctrain.samples.oversample import oversampled


def samples(column: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(target_id=np.arange(1000, 1000 + len(column)), column=lambda name: column)


def data(**keys) -> DataSection:
    return DataSection.model_validate({"files": ["x.h5"], **keys})


def test_all_classes_become_about_equally_common_and_no_row_is_lost():
    classes = np.repeat([b"star", b"galaxy", b"qso"], [900, 250, 150])
    rows = np.arange(0, 1300, 1)
    found = oversampled(samples(classes), rows, data(oversample={"column": "class"}))
    assert np.array_equal(np.unique(found), rows)
    assert np.array_equal(found, np.sort(found))
    counts = {name: int((classes[found] == name).sum()) for name in (b"star", b"galaxy", b"qso")}
    assert counts[b"star"] == 900
    assert counts[b"galaxy"] == pytest.approx(900, abs=25)
    assert counts[b"qso"] == 900


def test_no_row_is_there_more_often_than_asked_and_rows_without_a_class_are_there_once():
    classes = np.repeat([0, 1, -1], [1000, 2, 5])
    found = oversampled(samples(classes), np.arange(1007), data(oversample={"column": "class", "most": 4}))
    times = np.bincount(found)
    assert times[1000:1002].tolist() == [4, 4]
    assert times[1002:].tolist() == [1] * 5


def test_a_row_is_repeated_by_the_hash_of_its_object_alone():
    classes = np.repeat([b"a", b"b"], [300, 200])
    whole = oversampled(samples(classes), np.arange(500), data(oversample={"column": "class"}))
    backwards = samples(classes[::-1])
    backwards.target_id = np.arange(1000, 1500)[::-1]
    found = oversampled(backwards, np.arange(500), data(oversample={"column": "class"}))
    assert np.array_equal(np.sort(499 - found), whole)


def test_without_the_key_the_rows_are_the_same_array():
    rows = np.arange(5)
    assert oversampled(samples(np.zeros(5)), rows, data()) is rows


@pytest.mark.parametrize(
    ("column", "message"),
    [(np.array([0.5, 1.0]), "holds fractions"), (np.arange(1001), "has 1,001 different values")],
)
def test_a_column_that_is_no_class_is_refused(column, message):
    with pytest.raises(DataError, match=message):
        oversampled(samples(column), np.arange(len(column)), data(oversample={"column": "class"}))
