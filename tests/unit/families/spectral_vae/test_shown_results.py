"""What the report reads from the results of this family."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from hpctrain.families.result_files import UnusableResultsError
from hpctrain.families.spectral_vae.show import PANELS
from hpctrain.families.spectral_vae.shown_results import ANOMALIES, LATENTS, read_catalogue, strangeness


@pytest.fixture
def catalogue(tmp_path):
    path = tmp_path / "latents.h5"
    with h5py.File(path, "w") as file:
        file["LATENT_VEC"], file["target_id"], file["plate"] = np.zeros((5, 2)), np.arange(5), np.arange(5) + 266
    return path


def test_a_catalogue_has_the_columns_of_its_survey(catalogue):
    assert read_catalogue(catalogue)["survey_plate"].tolist() == [266, 267, 268, 269, 270]


def test_a_catalogue_is_not_read_out_of_another_file(catalogue, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["salary"] = np.full(5, 4711.0)
    with h5py.File(catalogue, "a") as file:
        for name in ("ra", "RECON_MSE"):
            file[name] = h5py.ExternalLink(tmp_path / "secret.h5", "salary")
        file["dec"] = h5py.SoftLink("/plate")
        file["mjd"] = h5py.SoftLink("/nothing")
    assert read_catalogue(catalogue).keys() == {"LATENT_VEC", "target_id", "survey_plate"}


def test_a_catalogue_without_latent_vectors_is_refused(tmp_path):
    with h5py.File(tmp_path / "latents.h5", "w") as file:
        file["LATENT_VEC"] = np.zeros(5)
    with pytest.raises(UnusableResultsError, match="has no LATENT_VEC of shape"):
        read_catalogue(tmp_path / "latents.h5")


def test_the_score_of_an_older_catalogue_is_that_of_its_forest(catalogue):
    with h5py.File(catalogue, "a") as file:
        file["ANOMALY_SCORE"] = np.array([0.1, 0.2, -0.3, 0.1, np.nan])
    latents = read_catalogue(catalogue)
    assert "ANOMALY_SCORE" not in latents
    score, is_unusual = strangeness(latents)
    assert np.nanargmax(score) == 2
    assert is_unusual.tolist() == [False, False, True, False, False]


def test_a_catalogue_has_the_new_score_beside_the_old_one(catalogue):
    with h5py.File(catalogue, "a") as file:
        file["ANOMALY_SCORE"], file["LOCAL_CHI2"] = np.array([0.1, 3.0, 0.3, 0.1, np.nan]), np.zeros(5)
        file["FOREST_SCORE"] = np.array([0.1, 0.2, -0.3, 0.1, np.nan])
    assert strangeness(read_catalogue(catalogue))[1].tolist() == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ([0.1, 1.9, 0.5, np.nan], "None of the 3 is unusual: no score reaches 2."),
        ([0.1, 2.1, 0.5, np.nan], "1 of 3 has a score of 2 or more, where chance gives 0.03."),
        ([3.0, 2.0, 0.5, np.nan], "2 of 3 have scores of 2 or more, where chance gives 0.03."),
    ],
)
def test_the_list_of_unusual_spectra_says_how_many_are(scores, said):
    latents = {"ANOMALY_SCORE": np.array(scores), "LATENT_VEC": np.where(np.isfinite(scores), 0.0, np.nan)[:, None]}
    found = {"local_chi2": np.zeros(0), "target_id": np.zeros(0), "flux": np.zeros((0, 5))}
    panel = next(panel for panel in PANELS if panel.key == "anomalies")
    drawn = panel.draw({LATENTS: latents, ANOMALIES: found})
    assert said in drawn
