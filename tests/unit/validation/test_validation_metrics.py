"""Metrics equal those of scikit-learn, scipy, astropy and the formulas that define them, with weights too. R rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from hpctrain.families.image_cnn.detection import recall_at
from hpctrain.families.labels.scores import nmad
from hpctrain.profile.rules_validate import RECONSTRUCTION
from hpctrain.validation.tasks.anomalies import anomaly_task, truth_of
from hpctrain.validation.tasks.classes import class_task
from hpctrain.validation.tasks.clusters import cluster_task
from hpctrain.validation.tasks.labels import is_redshift, numbers_of
from hpctrain.validation.tasks.spectra import spectra_task
from hpctrain.validation.tasks.values import CIRCULAR, REDSHIFT, VALUE, number_task

R = 400
RNG = np.random.default_rng(7)
COUNTS = RNG.integers(0, 4, R)
"""Weights as a bootstrap draw has them; a row of weight 0 does not count."""
REPEATED = np.repeat(np.arange(R), COUNTS)
CLASSES = ("STAR", "GALAXY", "QSO")
TRUE = RNG.choice(3, R, p=[0.5, 0.3, 0.2])
LOGITS = RNG.normal(size=(R, 3)).round(1)  # ties
LOGITS[np.arange(R), TRUE] += 1
PROBABILITY = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
GUESS = PROBABILITY.argmax(axis=1)
VALUES = RNG.normal(3, 1, R)
RESIDUAL = 0.1 * RNG.standard_t(3, R) + 0.02


@pytest.fixture(scope="module")
def classes():
    return class_task("c", CLASSES, TRUE, GUESS, PROBABILITY)


@pytest.mark.parametrize("rows", [np.arange(R), REPEATED], ids=["all rows", "weights"])
def test_metrics_of_classes_are_those_of_scikit_learn(classes, rows):
    weights = np.bincount(rows, minlength=R).astype(float)
    true, guess, probability = TRUE[rows], GUESS[rows], PROBABILITY[rows]
    expected = {
        "accuracy": reference.accuracy_score(true, guess),
        "balanced_accuracy": reference.balanced_accuracy_score(true, guess),
        "macro_f1": reference.f1_score(true, guess, average="macro"),
        "log_loss": reference.log_loss(true, probability),
        "brier": np.mean(((probability - np.eye(3)[true]) ** 2).sum(axis=1)),
        "roc_auc": reference.roc_auc_score(true, probability, multi_class="ovr"),
    }
    for number, name in enumerate(CLASSES):
        is_true, is_guess = true == number, guess == number
        expected[f"completeness.{name}"] = reference.recall_score(is_true, is_guess)
        expected[f"purity.{name}"] = reference.precision_score(is_true, is_guess)
        expected[f"f1.{name}"] = reference.f1_score(is_true, is_guess)
        expected[f"roc_auc.{name}"] = reference.roc_auc_score(is_true, probability[:, number])
        precision = reference.average_precision_score(is_true, probability[:, number])
        expected[f"average_precision.{name}"] = precision
    expected["average_precision"] = np.mean([expected[f"average_precision.{name}"] for name in CLASSES])
    found = {metric.name: classes.score(metric.name, weights) for metric in classes.metrics}
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_confusion_counts_known_rows_and_unknown_rows_change_nothing(classes):
    assert classes.details()["confusion"]["true_by_predicted"] == reference.confusion_matrix(TRUE, GUESS).tolist()
    more = [np.append(TRUE, -1), np.append(GUESS, 0), np.vstack([PROBABILITY, [1, 0, 0]])]
    other = class_task("c", CLASSES, *more)
    assert not other.known[-1]
    for metric in classes.metrics:
        assert other.score(metric.name) == pytest.approx(classes.score(metric.name), rel=1e-12)


def test_classes_as_texts_become_numbers_and_foreign_ones_are_unknown():
    texts = np.array([b"QSO", b"", b"STAR", b"COMET"])
    assert numbers_of(texts, CLASSES).tolist() == [2, -1, 0, -1]
    assert numbers_of(texts.astype(str), CLASSES).tolist() == [2, -1, 0, -1]


def test_detection_of_one_of_two_classes_counts_false_positives():
    is_lens = TRUE == 2
    score = PROBABILITY[:, 2]
    task = class_task(
        "lens", ("no", "yes"), is_lens.astype(int), (score > 0.5) * 1, np.stack([1 - score, score], axis=1)
    )
    for number in (0, 10):
        assert task.score(f"recall_{number}fp") == recall_at(score, is_lens, number)
        assert task.score(f"recall_{number}fp", COUNTS) == recall_at(score[REPEATED], is_lens[REPEATED], number)


@pytest.mark.parametrize("rows", [np.arange(R), REPEATED], ids=["all rows", "weights"])
def test_metrics_of_values_are_those_of_numpy_and_scikit_learn(rows):
    weights, residual = np.bincount(rows, minlength=R).astype(float), RESIDUAL[rows]
    task = number_task("v", VALUE, VALUES, VALUES + RESIDUAL, unit="K", outlier=0.3)
    expected = {
        "bias": np.median(residual),
        "mean_bias": residual.mean(),
        "nmad": nmad(residual),
        "scatter": residual.std(),
        "rmse": reference.root_mean_squared_error(VALUES[rows], VALUES[rows] + residual),
        "mae": reference.mean_absolute_error(VALUES[rows], VALUES[rows] + residual),
        "r2": reference.r2_score(VALUES[rows], VALUES[rows] + residual),
        "outliers": np.mean(np.abs(residual) > 0.3),
    }
    found = {metric.name: task.score(metric.name, weights) for metric in task.metrics}
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert task.metric("rmse").unit == "K"


def test_residuals_of_redshifts_are_divided_by_1_plus_z_and_outliers_have_the_limits_of_the_field():
    true = np.array([0.0, 1.0, 1.0, 3.0, np.nan])
    task = number_task("z", REDSHIFT, true, np.array([0.001, 1.2, 1.4, 3.04, 1.0]))
    np.testing.assert_allclose(task.arrays["residual"], [0.001, 0.1, 0.2, 0.01, np.nan])
    found = {name: task.score(name) for name in ("outliers_0.15", "outliers_0.05", "outliers_1000km_s")}
    assert found == {"outliers_0.15": 0.25, "outliers_0.05": 0.5, "outliers_1000km_s": 0.75}
    assert task.score("outliers_3000km_s") == 0.5  # 0.01 c is 2998 km/s
    assert task.per_row("outliers_0.05").tolist()[:4] == [0, 1, 1, 0]
    assert np.isnan(task.per_row("outliers_0.05")[4])


def test_angles_are_compared_the_shorter_way_round():
    true = RNG.uniform(0, 360, R)
    residual = np.degrees(RNG.vonmises(0.2, 3, R))
    task = number_task("a", CIRCULAR, true, (true + residual) % 360, unit="deg", period=360.0)
    assert task.score("bias") == pytest.approx(stats.circmean(residual, 360 / 2, -360 / 2), rel=1e-9)
    assert task.score("scatter") == pytest.approx(stats.circstd(residual, 360), rel=1e-9)
    assert task.score("mae") == pytest.approx(np.abs(residual).mean(), rel=1e-9)


def test_densities_have_the_mean_of_their_columns_and_the_distance_of_kolmogorov_and_smirnov():
    pit = RNG.beta(2, 1.5, R)
    columns = {"PIT": pit, "CRPS": np.abs(RESIDUAL), "NLL": RESIDUAL, "CDE_LOSS": -np.abs(RESIDUAL)}
    task = number_task("z", REDSHIFT, VALUES, VALUES + RESIDUAL, columns=columns)
    assert task.score("crps") == pytest.approx(np.abs(RESIDUAL).mean())
    assert task.score("cde_loss", COUNTS) == pytest.approx(-np.abs(RESIDUAL[REPEATED]).mean())
    assert task.score("log_loss") == pytest.approx(RESIDUAL.mean())
    assert task.score("pit_ks") == pytest.approx(stats.kstest(pit, "uniform").statistic, rel=1e-12)
    repeated = stats.kstest(pit[REPEATED], "uniform").statistic
    assert task.score("pit_ks", COUNTS) == pytest.approx(repeated, rel=1e-12)


def test_a_label_is_a_redshift_by_its_grid_or_by_name_and_values():
    z = np.array([0.1, 0.7, np.nan])
    assert is_redshift({"column": "truth", "kind": "density", "spacing": "log1p"}, z)
    assert is_redshift({"column": "cat/zspec", "kind": "value"}, z)
    assert not is_redshift({"column": "z", "kind": "value"}, z - 0.5)  # a metallicity
    assert not is_redshift({"column": "z", "kind": "value", "unit": "kpc"}, z)
    assert not is_redshift({"column": "mass", "kind": "value"}, z)


def test_clusters_agree_with_classes_as_in_scikit_learn():
    cluster = np.where(RNG.random(R) < 0.3, RNG.integers(-1, 4, R), TRUE)
    label = np.array([b"a", b"b", b"c"])[TRUE]
    task = cluster_task(cluster, label, np.ones(R, dtype=bool), None)
    for weights, rows in ((None, np.arange(R)), (COUNTS, REPEATED)):
        both = TRUE[rows], cluster[rows]
        assert task.score("ari", weights) == pytest.approx(reference.adjusted_rand_score(*both), rel=1e-9)
        assert task.score("nmi", weights) == pytest.approx(reference.normalized_mutual_info_score(*both), rel=1e-9)


def test_anomalies_are_ranked_as_in_scikit_learn_and_counted_among_the_first():
    is_unusual = TRUE == 2
    score = PROBABILITY[:, 2]
    task = anomaly_task(score, is_unusual, np.ones(R, dtype=bool))
    assert task.score("average_precision") == pytest.approx(reference.average_precision_score(is_unusual, score))
    first = np.argsort(-score, kind="stable")
    while score[first[99]] == score[first[100]]:  # equal scores are looked at together or not at all
        score[first[100]] -= 1e-6
        first = np.argsort(-score, kind="stable")
    task = anomaly_task(score, is_unusual, np.ones(R, dtype=bool))
    assert task.score("recall_first_100") == pytest.approx(is_unusual[first[:100]].sum() / is_unusual.sum())


@pytest.mark.parametrize(
    ("column", "positive", "unusual"),
    [
        (np.array([0, 2, 1]), [], [False, True, True]),
        (np.array([0.0, 2.0, np.nan]), ["2"], [False, True, False]),
        (np.array([False, True, False]), ["true"], [False, True, False]),
        (np.array([b"QSO", b"STAR ", b""]), ["STAR", "CV"], [False, True, False]),
    ],
)
def test_a_column_says_which_objects_are_unusual(column, positive, unusual):
    found, known = truth_of(column, positive)
    assert found.tolist() == unusual
    assert known.tolist() == [True, True, column.dtype.kind in "ib"]


def test_a_reconstruction_that_leaves_only_noise_has_ideal_tails():
    pixels = RNG.integers(100, 400, 4000)
    columns = {"RECON_MSE": RNG.chisquare(pixels) / pixels, "NUM_PIXELS": pixels, "STATUS": np.zeros(4000, np.uint8)}
    columns["STATUS"][:100] = 2  # not encoded
    task = spectra_task(columns, None)
    assert task.known.sum() == 3900
    assert [metric.name for metric in task.metrics] == list(RECONSTRUCTION), "hpctrain check knows them"
    assert task.score("tail_0.01") == pytest.approx(0.01, abs=0.006)
    assert task.score("chi2_ks") < 0.03
    assert task.score("reduced_chi2") == pytest.approx(np.median(columns["RECON_MSE"][100:]))


def test_a_metric_that_is_a_mean_over_rows_gives_what_each_row_adds(classes):
    for metric in classes.metrics:
        own = classes.per_row(metric.name)
        if own is not None:
            counts = np.isfinite(own)
            expected = np.average(own[counts], weights=COUNTS[counts])
            assert classes.score(metric.name, COUNTS) == pytest.approx(expected)
    with pytest.raises(KeyError, match="no metric 'nonsense'; it has accuracy"):
        classes.score("nonsense")
