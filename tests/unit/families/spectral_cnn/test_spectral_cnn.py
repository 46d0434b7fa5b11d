"""The convolutional network of spectra: masks, what it must not read, its card, and wrong profiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from families import TINY, profile_values
from kinds.spectra import tiny_file

from hpctrain.errors import DataError
from hpctrain.families.labels.results import predicted_columns
from hpctrain.families.store import card_entries, save_model, section_of
from hpctrain.profile.check import check_profile
from hpctrain.profile.families import family_of, kind_of, profile_of

CNN = TINY["spectral_cnn"]


def made(path: Path, **model: Any) -> tuple[Any, Any, Any, Any]:
    """Return the network in evaluation mode, all spectra as a prepared batch, the profile, and the settled section."""
    values = profile_values(CNN, path)
    profile = profile_of({**values, "model": {**values["model"], **model}})
    family, kind = family_of(profile), kind_of(profile)
    samples = kind.open(profile.data)
    rows = np.arange(len(samples))
    section = family.settle(profile.model, samples, rows)
    samples.labels = family.labels(section, samples)
    torch.manual_seed(1)
    network = family.network(section, kind.facts(samples, rows)).eval()
    return network, kind.preparation(profile.data.card_entries)(samples.read(rows)), profile, section


@pytest.fixture
def path(tmp_path):
    return tiny_file(tmp_path / "a.h5", num=24)


def test_masked_pixels_and_the_redshift_never_reach_the_features(path):
    network, batch, _, _ = made(path)
    hidden = batch.ivar == 0
    changed = batch.replace(flux=torch.where(hidden, 1e30, batch.flux), redshift=batch.redshift + 1)
    torch.testing.assert_close(network.features(changed), network.features(batch), rtol=0, atol=0)


def test_hidden_pixels_are_not_read(path):
    network, batch, _, _ = made(path)
    visible = torch.ones_like(batch.ivar, dtype=torch.bool)
    visible[:, 20:30] = False
    hidden = batch.replace(visible=visible)
    changed = hidden.replace(flux=torch.where(visible, batch.flux, 7.0))
    torch.testing.assert_close(network.features(changed), network.features(hidden), rtol=0, atol=0)


def test_a_spectrum_without_pixels_has_no_prediction(path):
    network, batch, _, _ = made(path)
    ivar = batch.ivar.clone()
    ivar[3] = 0
    columns = predicted_columns(network, batch.replace(ivar=ivar))
    assert columns["colour_PRED"][3] == b""
    assert np.isnan(columns["slope_PRED"][3])
    assert np.isnan(columns["colour_PROB"][3]).all()
    assert set(columns["colour_PRED"][:3]) <= {b"RED", b"FLAT", b"BLUE"}


def test_predictions_are_compared_with_labels_where_the_batch_has_them(path):
    network, batch, _, _ = made(path)
    with_labels, without = predicted_columns(network, batch), predicted_columns(network, batch.replace(labels={}))
    assert set(with_labels) - set(without) >= {"colour_TRUE", "slope_RESIDUAL", "z_PIT", "angle_PULL"}
    assert with_labels["colour_TRUE"][0] == b""  # every seventh is missing


def test_predicted_columns_have_units_and_name_the_classes(path):
    label = {"column": "slope", "kind": "value", "unit": "dex"}
    network, batch, profile, section = made(path, labels=[label, *CNN.model["labels"][2:], CNN.model["labels"][0]])
    meanings = family_of(profile).columns_of({"section": section.model_dump(mode="json")})
    assert meanings["slope_ERR"].unit == "dex"
    assert meanings["colour_PROB"].description.endswith("BLUE, FLAT, RED")
    assert set(predicted_columns(network, batch)) <= set(meanings)


def test_a_new_run_from_a_model_keeps_its_classes_and_its_grid(path, tmp_path):
    network, _, profile, section = made(path)
    facts = network.facts
    save_model(tmp_path / "model", network, section, facts, card_entries(profile))
    other = tiny_file(tmp_path / "b.h5", num=24, seed=5)
    with h5py.File(other, "a") as file:
        del file["colour"]
        file["colour"] = np.array(["FLAT", "BLUE"] * 12, dtype=object)
    samples = kind_of(profile).open(profile.data.model_copy(update={"files": [str(other)]}))
    family, rows = family_of(profile), np.arange(24)
    start = section_of(tmp_path / "model")
    again = family.settle(profile.model, samples, rows, start)
    assert again.labels[0].classes == ["BLUE", "FLAT", "RED"]
    assert again.labels[3].range == section.labels[3].range
    assert family.settle(profile.model, samples, rows).labels[0].classes == ["BLUE", "FLAT"]


def test_rows_on_different_grids_are_refused(path):
    with h5py.File(path, "a") as file:
        grid = file["wavelength"][:]
        del file["wavelength"]
        file["wavelength"] = grid * np.linspace(1, 1.1, 24)[:, None]
    with pytest.raises(DataError, match="different wavelength grids"):
        made(path)


@pytest.mark.parametrize(
    ("model", "where", "said"),
    [
        ({"labels": []}, "model.labels", "nothing to learn"),
        ({"labels": [{"column": "a", "kind": "clas"}]}, "model.labels.0.kind", "did you mean 'class'?"),
        ({"labels": [{"column": "a", "kind": "class", "erorr": "b"}]}, "model.labels.0.erorr", "did you mean 'error'?"),
        ({"labels": [{"column": "a", "kind": "value", "bins": 30}]}, "model.labels.0.bins", "is for kind density"),
        ({"labels": [{"column": "a", "kind": "circular"}]}, "model.labels.0.kind", "needs a `period`"),
        (
            {"labels": [{"column": "a", "kind": "value"}] * 2},
            "model.labels.1.column",
            "give one of them another `name`",
        ),
        ({"labels": [{"column": "my col", "kind": "value"}]}, "model.labels.0.column", "set `name`"),
        ({"labels": [{"column": "a", "kind": "density", "range": [2, 1]}]}, "model.labels.0.range", "does not rise"),
        ({"channels": [4, 4, 4]}, "model.kernels", "each convolution needs one of both"),
    ],
)
def test_a_wrong_profile_is_one_problem_with_its_place(path, tmp_path, model, where, said):
    values = profile_values(CNN, path)
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({**values, "model": {**values["model"], **model}}))
    [problem] = check_profile(tmp_path / "p.yaml", memory=False).problems
    assert problem.where == where
    assert said in problem.message
    assert problem.line is not None


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_a_column_that_is_not_in_the_file_is_a_problem_of_the_check(path, tmp_path):
    values = profile_values(CNN, path)
    values["model"] = {**values["model"], "labels": [{"column": "colur", "kind": "class"}]}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values))
    [problem] = check_profile(tmp_path / "p.yaml").problems
    assert "colur: is not in the file; did you mean 'colour'?" in problem.message
