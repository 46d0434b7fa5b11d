"""``hpctrain compare``: which rows count, what is refused, what the numbers and sentences say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from compared_runs import make_run

from hpctrain.cli import main
from hpctrain.rundir import RunDir
from hpctrain.validation.comparison.compare import Asked, compare
from hpctrain.validation.comparison.entrants import Entrant
from hpctrain.validation.comparison.repeated import corrected_resampled_t
from hpctrain.validation.judged import read_judged


@pytest.fixture
def two(tmp_path: Path) -> tuple[RunDir, RunDir]:
    """Return two runs, of which the second has twice the scatter."""
    return make_run(tmp_path, "sharp"), make_run(tmp_path, "blurred", scatter=0.04, seed=2, min_leaf=9)


def compared(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    """Return what the command prints with ``--json``."""
    assert main(["compare", *map(str, arguments), "--json", "--draws", "99"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: Any) -> str:
    """Return the error of the command, which must end with this exit code."""
    assert main(["compare", *map(str, arguments), "--draws", "99"]) == code
    return capsys.readouterr().err


def rewrite(run: RunDir, change: Any) -> None:
    """Write the predictions of a run anew."""
    path = run.results / "predictions.h5"
    with h5py.File(path, "r") as file:
        columns = change({name: file[name][:] for name in file})
    with h5py.File(path, "w") as file:
        file.update(columns)


def test_the_better_run_is_named_with_the_size_of_the_difference_first(two, capsys):
    found = compared(capsys, two[0].path, two[1].path, "--metric", "Z.nmad", "accuracy")
    (pair,) = found["pairs"]
    nmad = pair["tasks"]["Z"]["metrics"]["nmad"]
    assert nmad["value"] == pytest.approx(nmad["second"] - nmad["first"])
    assert 0 < nmad["low"] < nmad["value"] < nmad["high"]
    assert nmad["relative"] == pytest.approx(1.0, abs=0.3)
    assert pair["verdict"].startswith("sharp is better than blurred: Z scatter (NMAD) lower by 0.0")
    assert found["num_objects"] == found["num_groups"] == len(read_judged(two[0]))


def test_runs_that_cannot_be_told_apart_say_what_would_have_been_seen(tmp_path, capsys):
    runs = [make_run(tmp_path, f"r{seed}", seed=seed, num=600) for seed in (1, 2)]
    (pair,) = compared(capsys, *(run.path for run in runs), "--metric", "Z.rmse")["pairs"]
    assert pair["verdict"].startswith("These data cannot tell r1 and r2 apart: Z root mean square of r2 differs by ")
    assert "would have been seen with 80 % power" in pair["verdict"]
    assert pair["tasks"]["Z"]["metrics"]["rmse"]["detectable"] > 0


def test_rows_are_matched_by_object_whatever_their_order_in_the_file(two, capsys):
    before = compared(capsys, two[0].path, two[1].path)["pairs"]
    rewrite(two[1], lambda columns: {name: values[::-1] for name, values in columns.items()})
    assert compared(capsys, two[0].path, two[1].path)["pairs"] == before


def test_runs_with_different_splits_are_refused_with_the_number_of_shared_objects(tmp_path, capsys):
    runs = [make_run(tmp_path, "a"), make_run(tmp_path, "b", split={"salt": "other"})]
    ids = [read_judged(run).target_id for run in runs]
    shared = len(np.intersect1d(*ids))
    text = refused(capsys, 4, runs[0].path, runs[1].path)
    assert f"they share {shared}" in text
    assert f"a held out {len(ids[0])}" in text
    assert "data.split: salt other" in text
    assert "--shared" in text
    found = compared(capsys, runs[0].path, runs[1].path, "--shared", "--metric", "nmad")
    assert found["num_objects"] == shared
    assert found["notes"] == [f"the splits differ: only the {shared} objects that all runs held out count"]


def test_too_few_shared_objects_are_refused_even_if_asked_for(tmp_path, capsys):
    runs = [make_run(tmp_path, "a", num=200), make_run(tmp_path, "b", num=200, split={"salt": "other"})]
    text = refused(capsys, 4, runs[0].path, runs[1].path, "--shared")
    assert "share 5 held-out objects; it takes 20" in text


def test_objects_without_a_prediction_of_one_run_are_left_out_and_this_is_said(two, capsys):
    rewrite(two[1], lambda columns: {name: values[7:] for name, values in columns.items()})
    found = compared(capsys, two[0].path, two[1].path, "--metric", "nmad")
    assert found["notes"] == ["7 held-out objects do not count: not every run has a prediction for them"]


def test_rows_of_other_files_are_matched_by_their_object_if_it_has_only_one(two, capsys):
    rewrite(two[1], lambda columns: {**columns, "row": columns["row"] + 50})
    found = compared(capsys, two[0].path, two[1].path, "--metric", "nmad")
    assert "matched by the identifier of the object alone" in found["notes"][0]


def test_objects_with_several_rows_in_files_of_another_order_are_refused(tmp_path, capsys):
    runs = [make_run(tmp_path, name, num=300, rows=3) for name in "ab"]
    rewrite(runs[1], lambda columns: {**columns, "row": columns["row"] + 5000})
    assert "number their rows in different ways" in refused(capsys, 4, runs[0].path, runs[1].path)


def test_all_rows_of_an_object_are_drawn_together(tmp_path, capsys):
    runs = [make_run(tmp_path, name, seed=seed, num=300, rows=3) for seed, name in enumerate("ab")]
    found = compared(capsys, runs[0].path, runs[1].path, "--metric", "mae")
    assert found["num_rows"] == 3 * found["num_objects"] == 3 * found["num_groups"]


def test_groups_of_a_column_and_cells_of_the_sky_are_drawn_as_a_whole(two, capsys):
    pytest.importorskip("astropy_healpix")
    plates = compared(capsys, two[0].path, two[1].path, "--by", "plate", "--metric", "rmse")
    assert plates["num_groups"] == 40
    sky = compared(capsys, two[0].path, two[1].path, "--by", "sky", "--metric", "rmse")
    assert 100 < sky["num_groups"] < sky["num_objects"]
    text = refused(capsys, 4, two[0].path, two[1].path, "--by", "field")
    assert "field: is not in the file; there is dec, plate, ra" in text


def test_a_label_that_only_one_run_predicts_does_not_count(tmp_path, capsys):
    runs = [make_run(tmp_path, "a"), make_run(tmp_path, "b", label="zphot")]
    found = compared(capsys, runs[0].path, runs[1].path)
    assert list(found["tasks"]) == ["kind"]
    assert "Z is not predicted by all runs and does not count" in found["notes"]


def test_other_true_values_under_the_same_name_are_refused(tmp_path, capsys):
    runs = [make_run(tmp_path, "a"), make_run(tmp_path, "b", shift=0.1)]
    text = refused(capsys, 4, runs[0].path, runs[1].path)
    assert "Z: the true values of a and b differ at" in text
    assert text.count("\n") == 1


def test_every_run_that_is_not_finished_is_named_at_once(two, capsys):
    for run in two:
        (run.model / "model.json").unlink()
    text = refused(capsys, 4, two[0].path, two[1].path)
    assert text.count("has no model yet") == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sharp"], "it takes two runs or more"),
        (["sharp", "sharp"], "is the same run as sharp"),
        (["sharp", "blurred", "--metric", "nmda"], "--metric nmda: no metric that all runs have"),
        (["sharp", "blurred", "--baseline", "third"], "is none of the runs to compare; they are sharp, blurred"),
        (["sharp", "blured"], "did you mean 'blurred'?"),
    ],
)
def test_a_wrong_command_line_is_one_clear_error(two, tmp_path, capsys, arguments, said):
    make_run(tmp_path, "third")
    text = refused(capsys, 2, *arguments, "--runs-dir", tmp_path / "runs")
    assert said in text
    assert "Traceback" not in text


def test_several_runs_are_ranked_and_compared_with_the_baseline_or_in_all_pairs(two, tmp_path, capsys):
    make_run(tmp_path, "third", scatter=0.03, seed=3)
    where = ["--runs-dir", tmp_path / "runs", "--metric", "Z.nmad"]
    found = compared(capsys, "blurred", "third", "sharp", "--baseline", "third", *where)
    assert found["tasks"]["Z"]["ranking"] == ["sharp", "third", "blurred"]
    assert [(pair["first"], pair["second"]) for pair in found["pairs"]] == [("third", "blurred"), ("third", "sharp")]
    found = compared(capsys, "blurred", "third", "sharp", "--all-pairs", *where)
    assert len(found["pairs"]) == 3
    assert found["baseline"] is None


def test_p_values_are_corrected_for_the_number_of_pairs(tmp_path, capsys):
    runs = [make_run(tmp_path, f"r{seed}", seed=seed, num=400) for seed in range(3)]
    found = compared(capsys, *(run.path for run in runs), "--metric", "Z.rmse")
    tests = sorted((pair["tasks"]["Z"]["metrics"]["rmse"] for pair in found["pairs"]), key=lambda each: each["p"])
    assert tests[0]["p_holm"] == pytest.approx(min(1.0, 2 * tests[0]["p"]))


def test_two_cross_validations_are_also_compared_over_their_folds(two):
    judged = [read_judged(run) for run in two]
    folds = judged[0].target_id % 4
    entrants = [Entrant(each.name, each, folds) for each in judged]
    found = compare(entrants, Asked(metrics=("Z.mae",), draws=50))
    over = found["pairs"][0]["tasks"]["Z"]["metrics"]["mae"]["over_folds"]
    scores = [[each.task("Z").score("mae", (folds == fold) * 1.0) for fold in range(4)] for each in judged]
    expected = corrected_resampled_t(np.subtract(scores[1], scores[0]), 1 / 4)
    assert (over["value"], over["low"], over["p"]) == pytest.approx((expected.value, expected.low, expected.p))
    other = [entrants[0], Entrant("other", judged[1], folds[::-1])]
    assert "over_folds" not in compare(other, Asked(draws=50))["pairs"][0]["tasks"]["Z"]["metrics"]["nmad"]


def test_results_of_an_older_version_without_rows_are_refused_for_repeated_objects(tmp_path, capsys):
    runs = [make_run(tmp_path, name, num=300, rows=2) for name in "ab"]
    rewrite(runs[1], lambda columns: {name: values for name, values in columns.items() if name != "row"})
    assert "older version of hpctrain wrote results" in refused(capsys, 4, runs[0].path, runs[1].path)


def test_only_what_differs_between_the_profiles_is_listed(two, capsys):
    found = compared(capsys, two[0].path, two[1].path, "--metric", "nmad")
    assert found["profile"] == [{"key": "model.min_leaf", "values": [5, 9]}]
    assert {row["key"]: row["values"] for row in found["data"]}["fingerprints"][0].startswith("of the same name")


def test_the_table_begins_with_the_verdict_and_names_the_runs(two, capsys):
    assert main(["compare", str(two[0].path), str(two[1].path), "--draws", "99"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("sharp is better than blurred: ")
    assert any(line.split()[:3] == ["model.min_leaf", "5", "9"] for line in lines)
    assert any("McNemar" in line for line in lines)


def test_the_page_has_curves_and_tables_and_escapes_names(two, tmp_path, capsys):
    other = two[1].path.parent.rename(two[1].path.parent.with_name("a<b"))
    page = tmp_path / "page.html"
    found = compared(capsys, two[0].path, next(other.iterdir()), "--out", page)
    text = page.read_text()
    assert [each["name"] for each in found["runs"]] == ["sharp", "a<b"]
    for part in ("Validation loss", "What differs in the profiles", "model.min_leaf", "Relative change", "a&lt;b"):
        assert part in text
    assert "a<b" not in text


def test_a_page_that_cannot_be_written_is_one_clear_error(two, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "--out" in refused(capsys, 2, two[0].path, two[1].path, "--out", tmp_path / "file" / "page.html")
