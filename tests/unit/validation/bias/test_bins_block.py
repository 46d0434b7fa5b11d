"""Metrics in bins: numbers, tests, what is not judged, and the sky."""

import numpy as np
import pytest
from scipy import stats

from hpctrain.errors import DataError
from hpctrain.profile.sections.validate import BinsSection, SkySection, ValidateSection
from hpctrain.validation.bias.block import add_bins
from hpctrain.validation.bias.difference import difference, standard_error
from hpctrain.validation.bias.influence import influence
from hpctrain.validation.bias.restricted import restricted_task
from hpctrain.validation.bias.sky import variation
from hpctrain.validation.bias.sky_block import add_sky
from tests.unit.validation.made_judged import make_judged

NUM = 600


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def section_of(**values):
    return ValidateSection(draws=100, **values)


def flags_of(found, metric):
    return [(each["column"], each["bin"]) for each in found["bins"]["flagged"] if each["metric"] == metric]


def test_a_planted_bias_is_flagged_in_its_bin_and_nothing_else(rng, tmp_path):
    mag, survey = rng.uniform(15, 18, NUM), rng.choice(["boss", "eboss"], NUM)
    residual = 0.02 * rng.normal(size=NUM) + np.where(mag >= 17, 0.03, 0.0)
    judged = make_judged(tmp_path, residual, mag=mag, survey=survey)
    bins = [BinsSection(column="mag", edges=[16, 17]), BinsSection(column="survey")]
    found = add_bins(judged, section_of(bins=bins))
    assert ("mag", "from 17") in flags_of(found, "bias")
    assert {column for column, _ in flags_of(found, "bias")} == {"mag"}
    last = found["bins"]["columns"][0]["bins"][-1]["tasks"]["Z"]["bias"]
    assert last["low"] < 0.03 < last["high"]
    assert last["flagged"]
    drawn = {each["key"]: each for each in found["figures"]}
    assert 2 in drawn["Z.bins.mag.bias"]["data"]["flagged"]
    assert len(drawn["Z.bins.mag.bias"]["data"]["edges"]) == 4
    assert drawn["Z.bins.survey.bias"]["data"]["names"] == ["boss", "eboss"]


def test_bins_with_few_objects_are_shown_and_not_judged(rng, tmp_path):
    survey = np.where(np.arange(NUM) < 20, "small", "large")
    residual = 0.02 * rng.normal(size=NUM) + np.where(survey == "small", 1.0, 0.0)
    judged = make_judged(tmp_path, residual, survey=survey)
    found = add_bins(judged, section_of(bins=[BinsSection(column="survey")]))
    small = next(each for each in found["bins"]["columns"][0]["bins"] if each["label"] == "small")
    assert small["tasks"]["Z"]["bias"]["value"] == pytest.approx(1.0, abs=0.05)
    assert not small["tasks"]["Z"]["bias"]["judged"]
    assert not found["bins"]["flagged"]


def test_a_profile_without_bins_gets_those_of_true_and_predicted_values(rng, tmp_path):
    found = add_bins(make_judged(tmp_path, 0.02 * rng.normal(size=150)), section_of())
    columns = {each["column"]: each for each in found["bins"]["columns"]}
    assert list(columns) == ["Z_TRUE", "Z_PRED", "kind_TRUE", "kind_PRED"]
    assert "drawn towards" in columns["Z_TRUE"]["note"]
    assert {each["label"] for each in columns["kind_TRUE"]["bins"]} == {"GALAXY", "QSO", "STAR"}
    judged = columns["kind_TRUE"]["bins"][0]["tasks"]["kind"]
    assert judged["accuracy"]["judged"]
    assert not judged["macro_f1"]["judged"]


def test_a_share_is_compared_as_fisher_does(rng, tmp_path):
    residual = np.zeros(200)
    residual[:9], residual[100:102] = 0.5, 0.5
    task = make_judged(tmp_path, residual).task("Z")
    inside = np.arange(200) < 100
    found = difference(task, "outliers_0.15", np.arange(200), inside)
    assert found.p == pytest.approx(stats.fisher_exact([[9, 91], [2, 98]])[1])
    assert (found.inside, found.outside) == (pytest.approx(0.09), pytest.approx(0.02))


def test_the_bootstrap_error_of_a_mean_is_that_of_the_textbook(rng, tmp_path):
    task = make_judged(tmp_path, rng.normal(size=500)).task("Z")
    values = task.per_row("mean_bias")
    found = standard_error(task.statistic("mean_bias"), np.arange(500), 2000, 0)
    assert found == pytest.approx(values.std(ddof=1) / np.sqrt(500), rel=0.05)


def test_rows_that_repeat_an_object_make_no_difference_more_certain(rng, tmp_path):
    once = rng.normal(size=200)
    inside = np.arange(200) < 60
    residual = once + 0.4 * inside
    alone = difference(make_judged(tmp_path, residual).task("Z"), "bias", np.arange(200), inside)
    of_row = np.repeat(np.arange(200), 4)
    repeated = make_judged(tmp_path, residual[of_row]).task("Z")
    again = difference(repeated, "bias", of_row, inside[of_row])
    assert again.p == pytest.approx(alone.p, rel=0.7)


def test_metrics_of_some_rows_are_those_of_a_mask(rng, tmp_path):
    judged = make_judged(tmp_path, 0.1 * rng.normal(size=NUM))
    rows = np.flatnonzero(rng.uniform(size=NUM) < 0.3)
    mask = np.zeros(NUM)
    mask[rows] = 1.0
    for task in judged.tasks:
        own = restricted_task(task, rows)
        for metric in task.metrics:
            assert own.score(metric.name) == pytest.approx(task.score(metric.name, mask)), metric.name


@pytest.mark.parametrize("name", ["bias", "mean_bias", "nmad", "rmse", "outliers_0.15", "scatter"])
def test_the_mean_influence_of_rows_is_how_much_they_move_a_metric(rng, tmp_path, name):
    num = 20_000
    task = make_judged(tmp_path, 0.1 * rng.normal(size=num)).task("Z")
    weights = 1 + 0.1 * (np.arange(num) < num // 4) * (task.arrays["residual"] > 0.05)
    moved = task.score(name, weights) - task.score(name)
    expected = float(weights @ influence(task.statistic(name)) / weights.sum())
    assert moved == pytest.approx(expected, rel=0.15)


def test_the_sky_has_a_planted_cell_and_a_clean_sky_has_none(rng):
    cell = rng.integers(0, 30, 3000)
    cell[:40] = -1
    noise = rng.normal(size=3000)
    clean = variation(noise, cell, np.arange(3000), 199)
    planted = variation(noise + (cell == 4), cell, np.arange(3000), 199)
    assert clean.p > 0.05
    assert not (clean.p_cells < 0.05).any()
    assert planted.p == pytest.approx(1 / 200)
    assert planted.cells[planted.p_cells < 0.05].tolist() == [4]
    assert planted.num_objects == 2960


def test_maps_of_the_sky_have_the_cells_of_healpix(rng, tmp_path):
    ra, dec = rng.uniform(0, 30, NUM), rng.uniform(-15, 15, NUM)
    ra[0] = np.nan
    judged = make_judged(tmp_path, 0.02 * rng.normal(size=NUM), ra=ra, dec=dec)
    found = add_sky(judged, section_of(sky=SkySection(nside=4)))
    assert sum(found["sky"]["num_rows"].tolist()) == NUM - 1
    assert not found["sky"]["tasks"]["Z"]["bias"]["varies"]
    drawn = next(each for each in found["figures"] if each["key"] == "Z.sky.bias")
    assert all(len(each["corners"]) == 4 for each in drawn["data"]["cells"])


def test_a_run_without_coordinates_has_no_sky_unless_the_profile_asks_for_it(rng, tmp_path):
    judged = make_judged(tmp_path, 0.02 * rng.normal(size=NUM))
    assert add_sky(judged, section_of()) == {}
    with pytest.raises(DataError):
        add_sky(judged, section_of(sky=SkySection()))
