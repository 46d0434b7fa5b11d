"""The residual network of images: masks, views, scores of detection, maps of what it looks at, wrong profiles."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from families import TINY, profile_values
from kinds.images import tiny_file, write_file
from sklearn.metrics import roc_auc_score

from hpctrain.errors import DataError
from hpctrain.families.held_out import HeldOut
from hpctrain.families.image_cnn.detection import (
    DETECTION,
    area_under_roc,
    recall_at,
    recall_curve,
)
from hpctrain.families.image_cnn.saliency import NUM_PATCHES, SALIENCY, hidden_patches
from hpctrain.families.labels.results import predicted_columns
from hpctrain.profile.check import check_profile
from hpctrain.profile.families import family_of, kind_of, profile_of

CNN = TINY["image_cnn"]


def made(path: Path, **model: Any) -> SimpleNamespace:
    """Return the network in evaluation mode, all images as a prepared batch, and what they were made of."""
    values = profile_values(CNN, path)
    profile = profile_of({**values, "model": {**values["model"], **model}})
    family, kind = family_of(profile), kind_of(profile)
    samples = kind.open(profile.data)
    rows = np.arange(len(samples))
    section = family.settle(profile.model, samples, rows)
    samples.labels = family.labels(section, samples)
    torch.manual_seed(1)
    network, facts = family.network(section, kind.facts(samples, rows)).eval(), kind.facts(samples, rows)
    prepare = kind.preparation(profile.data.card_entries)
    card = {"family": "image_cnn", "section": section.model_dump(mode="json"), **profile.data.card_entries}
    batch = prepare(samples.read(rows))
    return SimpleNamespace(
        network=network, batch=batch, family=family, samples=samples, prepare=prepare, card=card, facts=facts
    )


@pytest.fixture
def path(tmp_path):
    return tiny_file(tmp_path / "a.h5", num=24)


def test_pixels_without_weight_never_reach_the_features(path):
    it = made(path)
    hidden = it.batch.weight == 0
    assert hidden.any()
    changed = it.batch.replace(image=torch.where(hidden, 1e30, it.batch.image))
    assert torch.equal(it.network.features(changed), it.network.features(it.batch))


def test_an_image_without_pixels_has_no_prediction(path):
    it = made(path)
    weight = it.batch.weight.clone()
    weight[3] = 0
    columns = predicted_columns(it.network, it.batch.replace(weight=weight))
    assert columns["colour_PRED"][3] == b""
    assert np.isnan(columns["size_PRED"][3])
    assert set(columns["colour_PRED"][:3]) <= {b"RED", b"FLAT", b"BLUE"}


@pytest.mark.parametrize(
    ("views", "turn"), [(2, lambda x: x.flip(3)), (4, lambda x: x.flip(2)), (8, lambda x: x.rot90(1, (2, 3)))]
)
def test_with_views_a_turned_image_has_the_same_prediction(path, views, turn):
    it = made(path, views=views)
    turned = it.batch.replace(image=turn(it.batch.image), weight=turn(it.batch.weight))
    torch.testing.assert_close(it.network.features(turned), it.network.features(it.batch), rtol=1e-4, atol=1e-5)
    one = made(path, views=1)
    assert not torch.allclose(one.network.features(turned), one.network.features(it.batch), rtol=1e-4, atol=1e-5)


def test_a_gradient_with_checkpointing_is_the_same(path):
    gradients = []
    for again in (False, True):
        it = made(path, dropout=0.0)
        it.network.train()
        if again:
            it.network.enable_gradient_checkpointing()
        it.network(it.batch, 0)["loss_sum"].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in it.network.parameters()]))
    torch.testing.assert_close(*gradients)
    assert (gradients[0] != 0).float().mean() > 0.5


def test_scores_of_detection_are_those_of_scikit_learn_and_of_counting():
    rng = np.random.default_rng(1)
    is_positive = rng.random(300) < 0.3
    score = np.round(rng.normal(is_positive * 1.5, 1.0), 1)  # with ties
    assert area_under_roc(score, is_positive) == pytest.approx(roc_auc_score(is_positive, score))
    negatives = np.sort(score[~is_positive])[::-1]
    for number in (0, 10):
        limit = negatives[number]
        assert recall_at(score, is_positive, number) == np.mean(score[is_positive] > limit)
        assert (score[~is_positive] > limit).sum() <= number
    numbers, recall = recall_curve(score, is_positive)
    for number in (0, 10, 50):
        assert recall[numbers == number] == recall_at(score, is_positive, number)
    assert recall_at(score, is_positive, 10_000) == 1
    assert np.isnan(recall_at(score, np.zeros(300, bool), 0))


def test_a_hidden_patch_matters_only_where_there_are_pixels(path):
    it = made(path)
    weight = it.batch.weight.clone()
    weight[:, :, :, :6] = 0
    maps = hidden_patches(it.network, it.batch.replace(weight=weight), 0)
    assert maps.shape == (NUM_PATCHES, NUM_PATCHES)
    assert abs(maps[:, :4]).max() < 1e-6  # products of other batches may be rounded differently
    assert (abs(maps[:, 8:]) > 1e-6).mean() > 0.5


def test_results_and_panels_show_detection_and_maps(path, tmp_path):
    it = made(
        path, labels=[{"column": "colour", "kind": "class", "classes": ["BLUE", "<b>RED"]}, *CNN.model["labels"][1:2]]
    )
    it.samples.labels["colour"][:12] = np.arange(12) % 2
    it.card["name"] = "tiny"
    held_out = HeldOut(it.samples, np.arange(24), it.prepare, 8, torch.device("cpu"), lambda done: None)
    it.family.write_results(it.network, it.card, held_out, tmp_path)
    panels = {panel.key: panel for panel in it.family.panels()}
    assert next(iter(panels)) == "detection"
    results = {name: it.family.read_results(tmp_path / name) for name in ("detection.npz", "saliency.npz")}
    said = DETECTION.draw(results)
    assert "&lt;b&gt;RED" in said
    assert "<b>RED" not in said
    assert "without a false positive" in said
    shown = SALIENCY.draw(results)
    assert shown.count("data:image/png;base64,") == 24
    assert "<b>RED" not in shown


@pytest.mark.parametrize(
    ("model", "where", "said"),
    [
        ({"views": 3}, "model.views", "3 is not one of 1, 2, 4, 8"),
        ({"labels": []}, "model.labels", "nothing to learn"),
        ({"channels": [4] * 6}, "model.channels", "make one pixel of 64, but an image has 12"),
    ],
)
def test_a_wrong_profile_is_one_problem_with_its_place(path, tmp_path, model, where, said):
    values = profile_values(CNN, path, data={"crop": 12})
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({**values, "model": {**values["model"], **model}}))
    [problem] = check_profile(tmp_path / "p.yaml", memory=False).problems
    assert problem.where == where
    assert said in problem.message


def test_images_of_other_bands_or_sizes_are_refused(path, tmp_path):
    it = made(path)
    other = tiny_file(tmp_path / "b.h5", num=4, side=14)
    assert "have 14 × 14 pixels" in it.facts.difference(opened(other)[1])
    assert "the bands r; the model reads g, r" in it.facts.difference(opened(other, bands=["r"], crop=12)[1])


def test_eight_views_need_square_images(tmp_path):
    image = np.ones((4, 2, 12, 14), np.float32)
    oblong = write_file(tmp_path / "a.h5", image, target_id=np.arange(4))
    profile, samples = opened(oblong, augment={"rotate": False})
    section = profile.model.model_copy(update={"views": 8})
    with pytest.raises(DataError, match="needs square images, but they have 12 × 14 pixels"):
        family_of(profile).settle(section, samples, np.arange(4))


def opened(path: Path, **data: Any) -> tuple[Any, Any]:
    profile = profile_of(profile_values(CNN, path, data=data))
    return profile, kind_of(profile).open(profile.data)
