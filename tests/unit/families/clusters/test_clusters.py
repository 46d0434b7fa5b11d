"""Clusters against scikit-learn, their stability and agreement, and what depends on nothing but seed and number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from families import TINY, profile_values
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture

from hpctrain.errors import DataError
from hpctrain.families.clusters.agreement import agreement, agreement_intervals
from hpctrain.families.clusters.density import fit_density
from hpctrain.families.clusters.family import FAMILY
from hpctrain.families.clusters.found import assign, describe
from hpctrain.families.clusters.kmeans import fit_kmeans
from hpctrain.families.clusters.mixture import fit_mixture
from hpctrain.families.clusters.results import write_clusters
from hpctrain.families.clusters.section import ClustersSection
from hpctrain.families.clusters.show import PANELS, cards, fit_sentence
from hpctrain.families.clusters.space import fit_space, used_inputs
from hpctrain.families.clusters.stability import cluster_stability, counted, pairwise_agreement
from hpctrain.families.held_out import HeldOut
from hpctrain.families.predictions import write_predictions
from hpctrain.kinds.catalogue.kind import KIND
from hpctrain.profile.check import check_profile
from hpctrain.profile.families import profile_of
from hpctrain.profile.load import dump_profile


def blobs(num: int = 150, seed: int = 1, far: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """Return points of three normal distributions of different shapes, and which one each is from."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1, 2], [num, num // 2, num // 3])
    places = np.array([[0.0, 0.0], [far, 0.0], [0.0, far]])
    shapes = np.array([[1.0, 1.0], [0.5, 1.5], [1.2, 0.4]])
    return places[truth] + shapes[truth] * rng.normal(size=(len(truth), 2)), truth


def section(**keys: Any) -> ClustersSection:
    return ClustersSection(family="clusters", **keys)


def catalogue(path: Path, points: np.ndarray, truth: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = points.T
        file["xy"] = points.astype(np.float16)
        file["kind"] = np.array([b"A", b"B", b"C"])[truth]
        file["target_id"] = np.arange(len(points))
    return path


class Grouped:
    """A model that has done rounds on three blobs."""

    def __init__(self, path: Path, **model: Any) -> None:
        values = profile_values(TINY["clusters"], path)
        data = {"files": [str(path)], "features": ["x", "y"], "split": {"validation": 0.2}}
        self.profile = profile_of({**values, "data": data, "model": {"family": "clusters", "starts": 3, **model}})
        self.samples = KIND.open(self.profile.data)
        self.rows = np.arange(len(self.samples))
        self.section = FAMILY.settle(self.profile.model, self.samples, self.rows)
        self.samples.labels = FAMILY.labels(self.section, self.samples)
        self.model = FAMILY.network(self.section, KIND.facts(self.samples, self.rows))

    def read(self, rows: np.ndarray) -> Any:
        return iter([self.samples.read(rows)])

    def all_rounds(self) -> Grouped:
        for number in range(self.section.rounds):
            self.sums = self.model.do_round(number, self.rows, self.read, number + 7)
        return self


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return catalogue(tmp_path_factory.mktemp("clusters") / "three.h5", *blobs())


def test_centres_are_those_of_scikit_learn():
    points, _ = blobs()
    ours = fit_kmeans(points, 3, section(), seed=5, threads=2)
    theirs = KMeans(3, n_init=5, random_state=0).fit(points)
    found = assign(ours, points)
    assert adjusted_rand_score(found.cluster, theirs.labels_) == 1.0
    assert float(found.loss.mean()) == pytest.approx(theirs.inertia_ / points.size)
    np.testing.assert_allclose(found.distance, theirs.transform(points).min(axis=1))


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_posteriors_and_densities_are_those_of_scikit_learn(covariance):
    points, _ = blobs()
    ours = fit_mixture(points, 3, section(covariance=covariance, starts=1), seed=5, threads=1)
    source = int(np.random.SeedSequence(5).generate_state(1, np.uint32)[0])
    theirs = GaussianMixture(3, covariance_type=covariance, max_iter=500, random_state=source).fit(points)
    found = assign(ours, points)
    np.testing.assert_allclose(found.loss, -theirs.score_samples(points), rtol=1e-9)
    np.testing.assert_allclose(found.probability, theirs.predict_proba(points).max(axis=1), rtol=1e-9)
    assert adjusted_rand_score(found.cluster, theirs.predict(points)) == 1.0
    assert float(ours.bic[0]) == pytest.approx(theirs.bic(points))


def test_standard_scaling_gives_each_input_a_standard_deviation_of_one():
    inputs = np.random.default_rng(2).exponential(3.0, size=(400, 2)).astype(np.float32)
    inputs[5, 0] = np.nan
    space = fit_space(inputs, section(scale="standard", clip=None), np.array([0, 1]))
    scaled = space.scaled(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(np.nanstd(scaled, axis=0), 1.0)
    np.testing.assert_allclose(np.nanmedian(scaled, axis=0), 0.0, atol=1e-6)
    inputs[7, 1] = 1e9  # makes the others no more equal than a value 100 robust standard deviations away would
    wild = fit_space(inputs, section(scale="standard"), np.array([0, 1]))
    assert 1.0 < wild.spread[1] / space.spread[1] < 6.0


def test_new_objects_get_the_place_of_their_neighbours_in_an_embedding(three):
    pytest.importorskip("umap")
    grouped = Grouped(three, method="kmeans", clusters=3, resamples=0, reduce="umap", label="kind").all_rounds()
    assert grouped.model.metrics(grouped.sums)["ari"] > 0.9
    batch = next(grouped.read(np.arange(50)))
    points = grouped.model.space(batch["inputs"])
    np.testing.assert_array_equal(points, grouped.model.space.places[:50])
    other = FAMILY.network(grouped.section, grouped.model)
    other.load(grouped.model.state())
    near = batch.with_tensors({"inputs": batch["inputs"] + 1e-3})
    for name, values in grouped.model.predict(near).items():
        np.testing.assert_array_equal(values, other.predict(near)[name])
    with pytest.raises(DataError, match="is no network"):
        FAMILY.to_network(grouped.model)


def test_training_objects_keep_the_cluster_that_hdbscan_gave_them():
    points, _ = blobs(far=4.0)
    theirs = HDBSCAN(min_cluster_size=10, min_samples=8, copy=True).fit(points)
    ours = fit_density(points, 10, section(method="hdbscan", min_samples=8))
    found = assign(ours, points)
    assert set(theirs.labels_) > {-1, 0}
    np.testing.assert_array_equal(found.cluster < 0, theirs.labels_ < 0)
    assert adjusted_rand_score(found.cluster, theirs.labels_) == 1.0
    np.testing.assert_allclose(found.probability, np.where(theirs.labels_ < 0, 0, theirs.probabilities_), atol=1e-12)


def test_hdbscan_gives_new_objects_the_cluster_around_them_and_calls_far_ones_noise():
    points, _ = blobs(num=300)
    ours = fit_density(points, 20, section(method="hdbscan"))
    new, truth = blobs(num=300, seed=2)
    cluster = assign(ours, new).cluster.numpy()
    kept = cluster >= 0
    assert kept.mean() > 0.8
    assert adjusted_rand_score(cluster[kept], truth[kept]) > 0.98
    far = assign(ours, np.array([[30.0, 30.0], [0.0, 0.0]]))
    assert far.cluster.tolist() == [-1, int(np.bincount(cluster[kept & (truth == 0)]).argmax())]
    assert far.probability[0] == 0 < far.probability[1]


def test_the_scores_of_a_table_are_those_of_scikit_learn():
    rng = np.random.default_rng(4)
    truth = rng.integers(4, size=500)
    cluster = np.where(rng.random(500) < 0.6, truth % 3, rng.integers(-1, 3, size=500))
    found = agreement(counted(cluster, truth, 3, 4)[:, :4])
    assert found["ari"] == pytest.approx(adjusted_rand_score(truth, cluster))
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(truth, cluster))
    most = sum(np.bincount(truth[cluster == one]).max() for one in np.unique(cluster))
    assert found["purity"] == pytest.approx(most / 500)
    value, low, high = agreement_intervals(counted(cluster, truth, 3, 4)[:, :4])["ari"]
    assert low < value < high
    assert agreement(np.zeros((3, 4))) == {}


def test_stability_is_one_for_the_same_clusters_and_low_for_random_ones():
    labels = np.repeat([0, 1, 2, -1], 50)
    same = np.stack([(labels + 1) % 3 * (labels >= 0) - (labels < 0), labels])
    assert pairwise_agreement(same)[0] == 1.0
    np.testing.assert_array_equal(cluster_stability(labels, same, 3), [1, 1, 1])
    random = np.random.default_rng(0).integers(3, size=(4, 200))
    assert abs(pairwise_agreement(random)[0]) < 0.05
    assert (cluster_stability(labels, random, 3) < 0.4).all()
    halves = np.where(labels == 0, np.arange(200) % 2 * 5, labels)[None]
    assert cluster_stability(labels, halves, 3).tolist() == [0.5, 1.0, 1.0]


@pytest.mark.parametrize("method", ["kmeans", "mixture"])
def test_the_criterion_chooses_as_many_clusters_as_there_are(three, method):
    grouped = Grouped(three, method=method, clusters=[2, 3, 4], resamples=2, scale="none", label="kind").all_rounds()
    assert grouped.model.best.partition.num_clusters == 3
    assert grouped.model.metrics(grouped.sums)["ari"] > 0.95
    assert (grouped.model.best.stability > 0.9).all()
    table = grouped.model.trials.table
    assert np.isfinite(table[:, [0, 1, 3, 4, 5]]).all()


def test_stability_chooses_too(three):
    grouped = Grouped(three, method="kmeans", clusters=[3, 6], resamples=4, criterion="stability").all_rounds()
    assert grouped.model.best.partition.num_clusters == 3


@pytest.mark.parametrize("method", ["kmeans", "mixture", "hdbscan"])
def test_clusters_do_not_depend_on_the_number_of_threads(three, method):
    states = []
    before = torch.get_num_threads()
    keys = {"min_cluster_size": 15} if method == "hdbscan" else {"clusters": [3, 4]}
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            states.append(Grouped(three, method=method, resamples=2, **keys).all_rounds().model.state())
    finally:
        torch.set_num_threads(before)
    assert states[0].keys() == states[1].keys()
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name], err_msg=name)


@pytest.mark.parametrize("method", ["kmeans", "hdbscan"])
def test_a_state_that_was_loaded_between_rounds_goes_on_with_the_same_bits(three, method):
    keys = {"min_cluster_size": [15, 30]} if method == "hdbscan" else {"clusters": [3, 4]}
    whole, cut = (Grouped(three, method=method, resamples=2, label="kind", **keys) for _ in range(2))
    whole.all_rounds()
    for number in range(6):
        later = FAMILY.network(cut.section, KIND.facts(cut.samples, cut.rows))
        later.load({name: array.copy() for name, array in cut.model.state().items()})
        cut.model = later
        sums = cut.model.do_round(number, cut.rows, cut.read, number + 7)
    assert sums == whole.sums
    for name, array in whole.model.state().items():
        np.testing.assert_array_equal(cut.model.state()[name], array, err_msg=name)


def test_the_label_changes_no_cluster(three):
    with_label, without = (
        Grouped(three, clusters=3, resamples=0, label=label).all_rounds() for label in ("kind", None)
    )
    assert with_label.model.best.state().keys() == without.model.best.state().keys()
    np.testing.assert_array_equal(with_label.model.best.partition.means, without.model.best.partition.means)


def test_objects_without_a_label_are_clustered_like_the_others(tmp_path):
    points, truth = blobs()
    path = catalogue(tmp_path / "some.h5", points, truth)
    with h5py.File(path, "a") as file:
        names = file["kind"][:]
        names[::2] = b""
        file["kind"][:] = names
    grouped = Grouped(path, clusters=3, resamples=0, label="kind").all_rounds()
    assert grouped.section.classes == ["A", "B", "C"]
    assert grouped.sums["weight_sum"] == len(points)
    counts = sum(value for name, value in grouped.sums.items() if name.startswith("table."))
    assert counts == (names != b"").sum()


def test_an_object_that_lacks_an_input_has_no_cluster_or_the_median_counts(three):
    dropped = Grouped(three, clusters=3, resamples=0).all_rounds()
    filled = Grouped(three, clusters=3, resamples=0, missing_values="median").all_rounds()
    batch = dropped.samples.read(np.arange(3))
    inputs = batch["inputs"].clone()
    inputs[0, 0], inputs[1] = torch.nan, torch.nan
    batch = batch.with_tensors({"inputs": inputs})
    columns = dropped.model.predict(batch)
    assert columns["CLUSTER"].tolist()[:2] == [-1, -1]
    assert torch.isfinite(columns["DISTANCE"]).tolist() == [False, False, True]
    assert torch.isfinite(filled.model.predict(batch)["DISTANCE"]).tolist() == [True, False, True]
    assert dropped.model.score(batch)["weight_sum"] == 1


def test_the_space_is_scaled_robustly_clipped_and_reduced():
    rng = np.random.default_rng(1)
    inputs = rng.normal([100, 0, 0], [5, 1, 1], size=(4000, 3)).astype(np.float32)
    inputs[:, 2] = inputs[:, 1] + 0.01 * inputs[:, 2]
    inputs[0, 1] = 1e6
    names = ("a", "b", "c")
    plain = fit_space(inputs, section(scale="robust"), used_inputs(section(scale="robust"), names))
    points = plain(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(points[1:].std(axis=0), 1, rtol=0.1)
    assert points[0, 1] == pytest.approx(10, abs=0.02)  # and centred
    asked = section(scale="robust", reduce="pca", components=0.9, inputs=["c", "b"])
    reduced = fit_space(inputs, asked, used_inputs(asked, names))
    assert reduced.axes.shape == (2, 1)
    seen = reduced(torch.from_numpy(inputs)).numpy()[1:, 0]
    assert abs(np.corrcoef(seen, inputs[1:, 1])[0, 1]) > 0.99


def test_a_medoid_is_the_object_in_the_middle():
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.4, 0.1], [9.0, 9.0]])
    partition = fit_kmeans(points, 2, section(), seed=1, threads=1)
    found, _ = describe(partition, points, np.array([10, 11, 12, 13]), points.astype(np.float32))
    assert found.medoid_id.tolist() == [12, 13]
    assert found.sizes.tolist() == [3, 1, 0]


def test_vectors_of_a_file_are_inputs(three):
    data = {"files": [str(three)], "features": ["xy"]}
    samples = KIND.open(profile_of({"name": "x", "data": data, "model": {"family": "clusters"}}).data)
    assert samples.names == ("xy[0]", "xy[1]")
    np.testing.assert_allclose(samples.inputs, blobs()[0], atol=0.02)


def test_data_from_run_names_the_latents_of_that_run(tmp_path):
    (tmp_path / "run" / "results").mkdir(parents=True)
    values = {"name": "x", "data": {"from_run": str(tmp_path / "run")}, "model": {"family": "clusters"}}
    with h5py.File(tmp_path / "run" / "results" / "latents.h5", "w") as file:
        file["LATENT_VEC"], file["target_id"] = blobs()[0].astype(np.float16), np.arange(len(blobs()[0]))
    profile = profile_of(values)
    assert profile.data.features == ["LATENT_VEC"]
    assert KIND.open(profile.data).names == ("LATENT_VEC[0]", "LATENT_VEC[1]")
    assert profile_of({**values, "data": profile.data.model_dump(mode="json")}).data == profile.data
    (tmp_path / "run" / "results" / "latents.h5").rename(tmp_path / "run" / "results" / "predictions.h5")
    chosen = profile_of({**values, "data": {**values["data"], "features": ["redshift_PRED"]}})
    assert chosen.data.files == [str(tmp_path / "run" / "results" / "predictions.h5")]


def test_too_few_objects_and_wrong_inputs_are_errors(tmp_path):
    path = catalogue(tmp_path / "few.h5", np.arange(12.0).reshape(6, 2), np.zeros(6, dtype=int))
    with pytest.raises(DataError, match="6 of 6 training objects can be used, but 4 clusters need 8 or more"):
        Grouped(path, clusters=4)
    with pytest.raises(DataError, match=r"model\.inputs: 'z' is not one of the inputs"):
        Grouped(path, clusters=2, inputs=["z"])
    with pytest.raises(DataError, match=r"model\.components: 3 principal components of 2 inputs"):
        Grouped(path, clusters=2, reduce="pca", components=3)


@pytest.mark.parametrize(
    ("model", "where", "text"),
    [
        ({"method": "kmeans", "criterion": "bic"}, "model.criterion", "needs a likelihood"),
        ({"clusters": [3, 3]}, "model.clusters", "twice"),
        ({"resamples": 1}, "model.resamples", "use 0 or at least 2"),
        ({"criterion": "stability", "resamples": 0}, "model.resamples", "stability chooses"),
        ({"label": "x"}, "model.label", "also an input"),
        ({"inputs": ["u"]}, "model.inputs.0", "is not one of the inputs"),
    ],
)
def test_check_names_what_does_not_fit_together(three, tmp_path, model, where, text):
    values = profile_values(TINY["clusters"], three)
    profile = profile_of(
        {**values, "data": {"files": [str(three)], "features": ["x", "y"]}, "model": {"family": "clusters", **model}}
    )
    path = tmp_path / "profile.yaml"
    path.write_text(dump_profile(profile))
    [problem] = check_profile(path, memory=False).problems
    assert problem.where == where
    assert text in problem.message


@pytest.mark.parametrize("method", ["mixture", "hdbscan"])
def test_the_report_shows_clusters_classes_candidates_and_outliers(three, tmp_path, method):
    keys = {"min_cluster_size": [15, 30]} if method == "hdbscan" else {"clusters": [3, 4]}
    grouped = Grouped(three, method=method, resamples=2, label="kind", classes=["C", "A", "B"], **keys).all_rounds()
    card = {"family": "clusters", "section": grouped.section.model_dump(mode="json")}
    held_out = HeldOut(grouped.samples, grouped.rows[::3], lambda batch: batch, 64, torch.device("cpu"), lambda done: 0)
    write_predictions(grouped.model, card, held_out, tmp_path / "predictions.h5")
    write_clusters(grouped.model, held_out, tmp_path)
    results = {name: FAMILY.read_results(tmp_path / name) for name in ("clusters.npz", "predictions.h5")}
    drawn = {panel.key: panel.draw(results) for panel in PANELS}
    assert all(drawn.values())
    assert "chosen" in drawn["candidates"]
    assert "<svg" in drawn["clusters"]
    assert [card.label for card in cards(results)] == ["Clusters", "Stability", "ARI with the label"]
    assert fit_sentence(results).startswith(
        "HDBSCAN finds 3 clusters, 3 of them" if method == "hdbscan" else "A mixture"
    )
    table = results["clusters.npz"]["table"]
    _, truth = blobs()
    assert table.sum(axis=0).tolist() == [(truth[held_out.rows] == number).sum() for number in (2, 0, 1)]
