"""The file of expectations, the statistics behind the checks, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import stats

from benchmarks.data_validation import week, write
from hpctrain.cli import main
from hpctrain.errors import ProfileError
from hpctrain.expectations import sample
from hpctrain.expectations.check import Check, judge, share_check
from hpctrain.expectations.codes import codes_of, mixed
from hpctrain.expectations.drift import Old, distance, stability_index
from hpctrain.expectations.propose import allowed_share
from hpctrain.expectations.sample import Repeats, RowSample
from hpctrain.expectations.section import read_expectations


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good week, another one, and a bad one; it is the current directory."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("good", 1), ("new", 2), ("bad", 3)):
        columns = week(1500, seed)
        if name == "bad":
            columns["i"] = columns["i"] + 1
            del columns["size"]
        write(tmp_path / f"{name}.h5", columns)
    return tmp_path


def test_the_commands_say_by_their_exit_code_whether_data_are_as_expected(files, capsys):
    assert main(["data", "expect", "good.h5", "--out", "good.yaml"]) == 0
    assert main(["data", "expect", "good.h5", "--out", "good.yaml"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["data", "validate", "new.h5", "--against", "good.yaml"]) == 0
    assert "none failed" in capsys.readouterr().out
    assert main(["data", "validate", "bad.h5", "--against", "good.yaml", "--out", "page.html"]) == 7
    shown = capsys.readouterr().out
    assert shown.index("the column is gone") < shown.index("shares differ by")  # the worst comes first
    assert main(["data", "validate", "none.h5", "--against", "good.yaml"]) == 4
    found = json.loads((files / "data-validation.json").read_text())
    assert not found["passed"]
    assert found["checks"][0]["column"] == "size"
    assert found["num_failed"] >= 2
    page = (files / "page.html").read_text()
    assert "the column is gone" in page
    assert "Coverage of the sky" in page
    assert "<img" not in page


def test_json_is_printed_instead_of_the_table(files, capsys):
    main(["data", "expect", "good.h5", "--out", "good.yaml"])
    capsys.readouterr()
    assert main(["data", "validate", "new.h5", "--against", "good.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["passed"]
    assert found["files"] == {"new.h5": 1500}


def test_wrong_expectations_are_named_with_their_lines(files):
    main(["data", "expect", "good.h5", "--out", "good.yaml"])
    text = (files / "good.yaml").read_text()
    text = text.replace("false_alarms: 0.01", "false_alarm: 0.01").replace("missing: 0.", "missing: 7.", 1)
    (files / "good.yaml").write_text(text.replace("ra: ra", "ra: raa"))
    with pytest.raises(ProfileError) as raised:
        read_expectations("good.yaml")
    problems = {problem.where.rpartition(".")[2]: problem for problem in raised.value.problems}
    assert "did you mean 'false_alarms'" in problems["false_alarm"].message
    assert problems["false_alarm"].line == text.splitlines().index("false_alarm: 0.01") + 1
    assert "found 7." in problems["missing"].message
    (files / "good.yaml").write_text(
        text.replace("false_alarm:", "false_alarms:").replace("missing: 7.", "missing: 0.")
    )
    (files / "good.yaml").write_text((files / "good.yaml").read_text().replace("ra: ra", "ra: raa"))
    with pytest.raises(ProfileError, match="did you mean 'ra'"):
        read_expectations("good.yaml")


def test_latents_are_compared_with_those_of_the_run_in_service(files, capsys):
    rng = np.random.default_rng(1)
    run = files / "runs" / "old" / "20261126-120000-abcd"
    (run / "results").mkdir(parents=True)
    model = "{family: trees, labels: [{column: i, kind: value}]}"
    profile = f"name: old\ndata: {{files: [good.h5], features: [g, r]}}\nmodel: {model}\n"
    (run / "profile.yaml").write_text(profile)
    for path, shift in ((run / "results" / "latents.h5", 0.0), (files / "same.h5", 0.0), (files / "moved.h5", 0.4)):
        latent = rng.normal(size=(2000, 4))
        latent[:, 2] += shift
        with h5py.File(path, "w") as file:
            file["latent"], file["row"] = latent.astype(np.float32), rng.permutation(10**6)[:2000]
    assert main(["data", "expect", str(run / "results" / "latents.h5"), "--out", "latents.yaml"]) == 0
    against = ["--against", "latents.yaml", "--reference", str(run)]
    assert main(["data", "validate", "same.h5", *against]) == 0
    capsys.readouterr()
    assert main(["data", "validate", "moved.h5", *against, "--json"]) == 7
    failed = [check["column"] for check in json.loads(capsys.readouterr().out)["checks"] if check["failed"]]
    assert set(failed) == {"latent[2]"}


def test_a_share_fails_only_if_chance_does_not_explain_it():
    few = share_check("missing", "g", 3, 100, 0.02, "without a value")
    many = share_check("missing", "g", 300, 10_000, 0.02, "without a value")
    assert few.is_broken
    assert many.is_broken
    assert [check.failed for check in judge([few, many], 0.01)] == [True, False]
    assert many.failed
    ten_million = share_check("missing", "g", 199_000, 10_000_000, 0.02, "without a value")
    assert not judge([ten_million], 0.01)[0].failed  # less than what is allowed, however many rows there are


def test_the_more_checks_there_are_the_less_each_may_find_by_chance():
    alone = Check("drift", "a", "", "", True, p=0.004)
    assert judge([alone], 0.01)[0].failed
    others = [Check("drift", str(place), "", "", True, p=0.5) for place in range(9)]
    assert not any(check.failed for check in judge([Check("drift", "a", "", "", True, p=0.004), *others], 0.01))


def test_shares_that_good_data_allow_hold_for_as_many_new_ones():
    for share, number in ((0.0, 500), (0.01, 2000), (0.3, 5000)):
        limit = allowed_share(round(share * number), number)
        assert stats.binom.sf(limit * number, number, max(share, 1e-4)) < 0.001
        assert limit < max(2 * share, 0.02)


def test_the_distance_from_quantiles_is_never_more_than_that_of_all_values():
    rng = np.random.default_rng(3)
    for seed in range(20):
        old = np.round(rng.normal(size=2000), seed % 3)
        new = np.round(rng.normal(0.3 * (seed % 2), 1, 700), seed % 3)
        quantiles = np.quantile(old, np.linspace(0, 1, 21))
        known = distance(new, Old(None, quantiles, len(old))).size
        exact = stats.ks_2samp(new, old).statistic
        assert known <= exact + 1e-12
        assert exact - known < 0.06


def test_the_stability_index_of_good_data_follows_its_distribution():
    rng = np.random.default_rng(4)
    p = []
    for _ in range(300):
        old = rng.normal(size=3000)
        p.append(stability_index(rng.normal(size=1000), Old(old, np.quantile(old, np.linspace(0, 1, 21)), 3000)).p)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_a_sample_is_bounded_even_and_the_same_each_time(monkeypatch):
    monkeypatch.setattr(sample, "MOST_SAMPLED", 1000)
    found = []
    for size in (100, 777):
        rows = RowSample(1)
        for first in range(0, 50_000, size):
            number = min(size, 50_000 - first)
            places = rows.choose(first, number)
            rows.add("x", first + places)
            rows.shrink()
        found.append(np.sort(rows.columns()["x"]))
    assert len(found[0]) == 1000
    np.testing.assert_array_equal(*found)
    assert stats.kstest(found[0] / 50_000, "uniform").pvalue > 0.01


def test_repeated_rows_are_counted_in_bounded_memory(monkeypatch):
    rng = np.random.default_rng(5)
    values = rng.permutation(40_000)
    values[30_000:] = values[:10_000]
    codes = codes_of(values)
    exact = Repeats()
    exact.add(0, codes)
    assert exact.found(3)[:2] == (40_000, 10_000)
    assert exact.found(3)[2].tolist() == [30_000, 30_001, 30_002]
    monkeypatch.setattr(sample, "MOST_CODES", 8_000)
    few = Repeats()
    for first in range(0, 40_000, 1000):
        few.add(first, codes[first : first + 1000])
    looked, repeated, rows = few.found()
    assert looked <= 8_000
    assert abs(repeated / looked - 0.25) < 0.02
    assert np.all(rows >= 30_000)


def test_equal_values_have_equal_codes_in_any_type():
    assert codes_of(np.array([1, 2])).tolist() == codes_of(np.array([1.0, 2.0], np.float32)).tolist()
    assert codes_of(np.array([b"ab"])).tolist() == codes_of(np.array([b"ab"], "S40")).tolist()
    assert len(set(mixed(np.arange(10_000, dtype=np.uint64)).tolist())) == 10_000
    assert codes_of(np.array([np.nan, -np.nan, 0.0, -0.0])).tolist()[::2] == codes_of(np.array([np.nan, 0.0])).tolist()


def test_of_classes_that_differ_alike_the_first_one_is_named(tmp_path, capsys):
    """The order of a set is another one in each process, and the same data would give other words."""
    names = [f"kind{letter}" for letter in "HGFEDCBA"]
    (tmp_path / "good.csv").write_text("kind\n" + "".join(f"{name}\n" for name in names * 20))
    good, expected = str(tmp_path / "good.csv"), str(tmp_path / "expected.yaml")
    assert main(["data", "expect", good, "--out", expected]) == 0
    capsys.readouterr()
    assert main(["data", "validate", good, "--against", expected, "--json"]) == 0
    assert "most: kindA from 12.5 % to 12.5 %" in capsys.readouterr().out
