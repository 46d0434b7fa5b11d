"""The network of light curves: padding, what it must not read, early classification, and wrong profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from families import TINY, profile_values
from kinds.light_curves import tiny_file

from hpctrain.families.held_out import HeldOut
from hpctrain.families.light_curve_transformer.early import (
    FILE,
    accuracy_against_days,
    draw_early,
    interval,
    times_of,
    write_early,
)
from hpctrain.families.light_curve_transformer.points import CurveEncoder
from hpctrain.kinds.light_curves.batch import NO_BAND
from hpctrain.kinds.light_curves.facts import LightCurveFacts
from hpctrain.kinds.light_curves.transform import cut_after
from hpctrain.profile.check import check_profile
from hpctrain.profile.families import family_of, kind_of, profile_of

FAMILIES = {name: TINY[name] for name in ("light_curve_transformer", "light_curve_transformer-gru")}


class Made:
    """A network in evaluation mode, and all curves as a prepared batch."""

    def __init__(self, name: str, path: Path, **model: Any) -> None:
        values = profile_values(FAMILIES[name], path)
        self.profile = profile_of({**values, "model": {**values["model"], **model}})
        family, kind = family_of(self.profile), kind_of(self.profile)
        self.samples = kind.open(self.profile.data)
        self.rows = np.arange(len(self.samples))
        section = family.settle(self.profile.model, self.samples, self.rows)
        self.samples.labels = family.labels(section, self.samples)
        torch.manual_seed(1)
        self.network = family.network(section, kind.facts(self.samples, self.rows)).eval()
        self.prepare = kind.preparation(self.profile.data.card_entries)
        self.batch = self.prepare(self.samples.read(self.rows))

    @property
    def held_out(self) -> HeldOut:
        return HeldOut(self.samples, self.rows, self.prepare, 10, torch.device("cpu"), lambda done: None)


@pytest.fixture(params=FAMILIES)
def made(request, tmp_path) -> Made:
    return Made(request.param, tiny_file(tmp_path / "a.h5", num=24))


def test_points_that_do_not_exist_never_reach_the_features(made):
    hidden = ~made.batch.exists
    assert hidden.any()
    changes = {name: torch.where(hidden, 1e20, made.batch[name]) for name in ("time", "value", "error")}
    found = made.network.features(made.batch.with_tensors(changes))
    torch.testing.assert_close(found, made.network.features(made.batch), rtol=0, atol=0)


def test_predictions_do_not_depend_on_the_length_of_the_longest_curve_in_the_batch(made):
    whole = made.network.predict(made.batch)
    short = int(made.batch.exists.sum(dim=1).argmin())
    alone = made.network.predict(made.prepare(made.samples.read(np.array([short]))))
    padded = made.network.predict(made.batch.with_tensors(made.batch.tensors()))
    for name, values in whole.items():
        torch.testing.assert_close(alone[name][0], values[short], rtol=1e-4, atol=1e-5, equal_nan=True)
        torch.testing.assert_close(padded[name], values, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_values_errors_times_and_bands_all_change_the_features(made):
    before = made.network.features(made.batch)
    changes = {
        "value": made.batch["value"].flip(0),
        "error": 3 * made.batch["error"],
        "time": 2 * made.batch["time"],
        "band": torch.where(made.batch.exists, 1 - made.batch["band"], NO_BAND),
    }
    for name, values in changes.items():
        after = made.network.features(made.batch.with_tensors({name: values}))
        assert (after - before).abs().amax() > 1e-4, name


def test_a_curve_without_points_has_no_prediction_and_no_bad_gradient(made):
    empty = made.batch.with_tensors({"band": torch.full_like(made.batch["band"], NO_BAND)})
    for name, values in made.network.predict(empty).items():
        assert (values == -1).all() if name.endswith("_CODE") else torch.isnan(values).all(), name
    half = torch.where(torch.arange(24)[:, None] < 12, made.batch["band"], NO_BAND)
    sums = made.network.train()(made.batch.with_tensors({"band": half}))
    sums["loss_sum"].backward()
    gradients = [parameter.grad for parameter in made.network.parameters()]
    assert all(torch.isfinite(gradient).all() for gradient in gradients if gradient is not None)


def test_early_accuracy_is_that_of_the_curves_cut_by_hand(made, tmp_path):
    days = [0.0, 5.0, 50.0]
    found = accuracy_against_days(made.network, made.held_out, days)
    raw = made.samples.read(made.rows)
    has = raw.labels["activity"] >= 0
    for at, limit in enumerate(days):
        codes = made.network.predict(made.prepare(cut_after(raw, limit)))["activity_CODE"]
        assert found["activity_right"][at].tolist() == (codes == raw.labels["activity"])[has].int().tolist()
    assert found["points"][0] == pytest.approx(1, abs=0.1), "one curve has a bad point"
    write_early(made.network, made.held_out, tmp_path)
    with np.load(tmp_path / FILE) as stored:
        html = draw_early({FILE: {name: stored[name] for name in stored.files}})
    assert "activity" in html
    assert html.count("<td>") == 16


def test_a_network_without_classes_writes_nothing_about_early_classification(tmp_path):
    made = Made(
        "light_curve_transformer-gru", tiny_file(tmp_path / "a.h5"), labels=[{"column": "strength", "kind": "value"}]
    )
    write_early(made.network, made.held_out, tmp_path)
    assert not (tmp_path / FILE).exists()


def test_times_are_those_of_the_profile_or_halves_of_the_length():
    assert times_of([10.0, 1.0], 100.0) == [1.0, 10.0]
    assert times_of([], 100.0) == []
    assert times_of(None, 128.0) == [1, 2, 4, 8, 16, 32, 64, 128]


def test_the_interval_of_an_accuracy_is_that_of_its_standard_error():
    right = (np.random.default_rng(1).random((2, 4000)) < [[0.8], [0.3]]).astype(np.int8)
    low, high = interval(right)
    np.testing.assert_allclose(high - low, 2 * 1.96 * np.sqrt([0.16, 0.21]) / np.sqrt(4000), rtol=0.2)


def test_without_an_encoder_only_the_columns_decide(tmp_path):
    made = Made("light_curve_transformer", tiny_file(tmp_path / "a.h5", num=24), encoder="none", feature_dropout=0.5)
    before = made.network.features(made.batch)
    changes = {"value": made.batch["value"].flip(0), "phase": 1 - made.batch["phase"]}
    torch.testing.assert_close(made.network.features(made.batch.with_tensors(changes)), before, rtol=0, atol=0)
    assert (made.network.features(made.batch.with_tensors({"features": 1 + made.batch["features"]})) != before).any()
    made.network.train()(made.batch)["loss_sum"].backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in made.network.parameters())


def test_a_column_is_spread_as_its_distribution_function(made):
    values = np.random.default_rng(3).normal(size=500)
    quantiles = tuple(np.quantile(values, np.linspace(0, 1, 65)).tolist())
    facts = LightCurveFacts(("g",), 8, 100.0, 1.0, False, ("a", "b"), (0.0,) * 2, (1.0,) * 2, (quantiles, (0.0,) * 65))
    encoder = CurveEncoder(facts, num_bins=8, dropout=0.0)
    asked = torch.tensor([[quantiles[0] - 1, 0.0], [0.3, 1.0], [quantiles[-1] + 1, -1.0], [torch.nan, torch.nan]])
    batch = made.batch.with_tensors({"features": asked.repeat(6, 1).float()})
    found = encoder(batch)[:4, 4:]
    share = np.interp([-9, 0.3, 9], quantiles[::8], np.linspace(0, 1, 9))
    np.testing.assert_allclose(found[:3, :8].mean(dim=1), share, atol=1e-6)
    assert found[:, 8:16].mean(dim=1).tolist() == [0, 1, 0, 0], "a column with one value is a step"
    assert found[:, 16:].tolist() == [[0, 0]] * 3 + [[1, 1]]


def test_a_model_from_before_quantiles_were_kept_still_loads():
    facts = LightCurveFacts(("g",), 8, 100.0, 1.0, False, ("a",), (2.0,), (1.0,))
    values = facts.to_json()
    values.pop("quantiles")
    assert LightCurveFacts.from_json(values) == facts
    assert CurveEncoder(facts, num_bins=8, dropout=0.0).num_outputs == 6


WRONG = {
    "nothing to read": (
        {"encoder": "none", "labels": [{"column": "strength", "kind": "value"}]},
        {"features": []},
        "model.encoder",
        "reads only data.statistics and data.features",
    ),
    "heads": ({"width": 10, "heads": 3}, {}, "model.width", "10 is no multiple of 3 heads; use for example heads: 2"),
    "a feature": ({"labels": [{"column": "colour", "kind": "value"}]}, {}, "model.labels.0.column", "in data.features"),
    "the period": ({"labels": [{"column": "period", "kind": "value"}]}, {}, "model.labels.0.column", "in data.fold"),
    "bands": ({}, {"bands": ["g", "g"]}, "data.bands.1", "'g' is named twice"),
    "points": ({}, {"min_points": 20, "max_points": 16}, "data.min_points", "more than max_points (16)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_values_that_do_not_fit_together_are_named(tmp_path, case):
    model, data, where, message = WRONG[case]
    values = profile_values(FAMILIES["light_curve_transformer"], tiny_file(tmp_path / "a.h5"))
    values["model"] = {**values["model"], **model}
    values["data"] = {**values["data"], **data}
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(values))
    [problem] = check_profile(tmp_path / "profile.yaml", memory=False).problems
    assert problem.where == where
    assert message in problem.message


def test_keys_without_effect_are_warned_about(tmp_path):
    values = profile_values(FAMILIES["light_curve_transformer-gru"], tiny_file(tmp_path / "a.h5"))
    values["model"] = {**values["model"], "heads": 2}
    values["train"] |= {"compile": True}
    values["data"] |= {"cache": "ram"}
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(values))
    warnings = {warning.where for warning in check_profile(tmp_path / "profile.yaml", memory=False).warnings}
    assert {"model.heads", "train.compile", "data.cache"} <= warnings
