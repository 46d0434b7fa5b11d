"""Weeks of simulated data, good ones and such with one fault, and real catalogues."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data_validation import FAULTS, expectations, week, write
from hpctrain.expectations.section import Expectations
from hpctrain.expectations.validate import Validated, validate

NUM = 3000


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Expectations:
    """What is expected after four good weeks."""
    folder = tmp_path_factory.mktemp("good")
    return expectations(folder, [write(folder / f"{seed}.h5", week(NUM, seed)) for seed in range(4)])


def _failed(found: Validated) -> set[tuple[str, str]]:
    return {(check.what, check.column) for check in found.failed}


def test_good_weeks_are_as_expected(expected, tmp_path):
    for seed in range(10, 15):
        found = validate([write(tmp_path / "new.h5", week(NUM, seed))], expected, "good.yaml")
        assert _failed(found) == set()
        assert len(found.checks) > 60


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault, expected, tmp_path):
    change, wanted = FAULTS[fault]
    columns = week(NUM, 50)
    change(columns)
    found = validate([write(tmp_path / "new.h5", columns)], expected, "good.yaml")
    assert wanted <= _failed(found)
    assert (found.failed[0].what, found.failed[0].column) in wanted | {("stability", "size")}


def test_drift_is_found_against_the_data_of_the_model_in_service(expected, tmp_path):
    old, new = week(NUM, 60), week(NUM, 61)
    for columns in (old, new):
        columns["i"] = columns["i"] + 0.3  # both differ from the good data, and not from each other
    reference = write(tmp_path / "old.h5", old)
    files = [write(tmp_path / "new.h5", new)]
    assert ("drift", "i") in _failed(validate(files, expected, "good.yaml"))
    assert _failed(validate(files, expected, "good.yaml", reference)) == set()
    again = validate([reference], expected, "good.yaml", reference)
    assert ("in-reference", "") in _failed(again)


def test_one_bad_file_among_good_ones_is_named(expected, tmp_path):
    files = [write(tmp_path / f"{seed}.h5", week(300, seed)) for seed in range(20, 28)]
    bad = week(300, 28)
    bad["i"] = bad["i"] + np.float32(0.7)
    files.append(write(tmp_path / "bad.h5", bad))
    found = validate(files, expected, "good.yaml")
    check = next(check for check in found.failed if check.what == "file-drift")
    assert check.column == "i"
    assert list(check.as_dict(files)["files"]) == [str(tmp_path / "bad.h5")]


def test_half_of_a_real_catalogue_says_what_the_other_half_is_like(shared_data, tmp_path):
    with gzip.open(shared_data / "photoz" / "SDSS_MGS.test.gz", "rt") as stream:
        _, *rows = stream.read().splitlines()
    names = "zs u g r i z u-g g-r r-i i-z eu eg er ei ez eu-g eg-r er-i ei-z"
    halves = [tmp_path / "one.txt", tmp_path / "other.txt"]
    for place, path in enumerate(halves):
        path.write_text("\n".join([names, *rows[place::2]]))
    expected = expectations(tmp_path, [str(halves[0])])
    found = validate([str(halves[1])], expected, "one.yaml", str(halves[0]))
    assert _failed(found) == set()
    assert len(found.checks) > 100


def test_a_real_unknown_magnitude_is_found(shared_data, tmp_path):
    path = shared_data / "catalogs" / "sdss17_star_classification_10pct.csv.gz"
    with gzip.open(path, "rt") as stream:
        head, *rows = stream.read().splitlines()
    unknown = [row for row in rows if "-9999" in row]
    good, new = Path(tmp_path / "good.csv"), Path(tmp_path / "new.csv")
    good.write_text("\n".join([head, *[row for row in rows[:4000] if row not in unknown]]))
    new.write_text("\n".join([head, *rows[4000:], *unknown]))
    found = validate([str(new)], expectations(tmp_path, [str(good)]), "good.yaml")
    assert len(unknown) == 1
    assert {("new-sentinel", "u"), ("new-sentinel", "g"), ("new-sentinel", "z")} <= _failed(found)
