"""``hpctrain anomalies``: unusual objects as a table, as a page, and in the order of a person's taste."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from astropy.table import Table

from hpctrain.cli import main
from hpctrain.families.spectral_vae.anomaly import fit_reference, isolation_scores
from hpctrain.families.spectral_vae.catalogue import COLUMNS, FORMAT, FORMAT_VERSION
from hpctrain.families.spectral_vae.interest import features_of, rerank

N = 400
POOR, RARE = slice(0, 6), slice(6, 12)


def write_catalogue(path, version=FORMAT_VERSION, **more):
    """A catalogue of ordinary objects, of six that are badly fitted, and of six with rare latents."""
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(N, 3)).astype("f2")
    latents[RARE] = 6.0 + rng.normal(size=(6, 3)) * 0.1
    chi2 = np.exp(rng.normal(0, 0.05, N)).astype("f4")
    chi2[POOR] = 2.5
    snr, redshift = rng.uniform(3, 9, N).astype("f4"), rng.uniform(0, 2, N).astype("f4")
    inputs = latents, chi2, snr, redshift
    table = {
        "target_id": np.arange(N) + 39_000_000_000_000_000, "redshift": redshift, "LATENT_VEC": latents,
        "RECON_MSE": chi2, "SNR": snr, "FOREST_SCORE": isolation_scores(latents.astype("f4"), 1),
        **fit_reference(*inputs, 1).score(*inputs), "NORM": chi2, "WINDOW": np.zeros(N, "i1"),
        "NUM_PIXELS": np.full(N, 100), "STATUS": np.zeros(N, "u1"),
    }  # fmt: skip
    survey = {"ra": rng.uniform(0, 360, N), "dec": rng.uniform(-5, 60, N), "plate": np.full(N, 266)}
    survey |= {"mjd": np.full(N, 51602), "fiber": np.arange(N) + 1, "spectype": np.array([b"QSO"] * N)}
    with h5py.File(path, "w") as file:
        file.attrs.update({"format": FORMAT, "format_version": version, "anomaly_reference": "the 400 objects", **more})
        for name in COLUMNS:
            if version == FORMAT_VERSION or name not in ("SNR", "LOCAL_CHI2", "LATENT_DENSITY", "ANOMALY_REASON"):
                file[name] = table[name]
        for name, values in survey.items():
            file[name] = values
    return path


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    return write_catalogue(tmp_path_factory.mktemp("catalogue") / "latents.h5")


def rows_of(table):
    return np.asarray(table["target_id"]) - 39_000_000_000_000_000


@pytest.mark.parametrize("ending", [".ecsv", ".csv", ".fits"])
def test_a_table_lists_odd_objects_with_place_ids_reason_and_pages(catalogue, tmp_path, ending, capsys):
    out = tmp_path / f"odd{ending}"
    assert main(["anomalies", str(catalogue), "--out", str(out), "--top", "12"]) == 0
    table = Table.read(out)
    assert set(rows_of(table)) == set(range(12))
    assert (np.diff(table["anomaly_score"]) <= 0).all()
    for row, reason in zip(rows_of(table), table["reason"], strict=True):
        assert str(reason) == ("poor fit" if row < 6 else "rare latents")
    first = table[0]
    with h5py.File(catalogue) as file:
        assert first["ra"] == pytest.approx(file["ra"][rows_of(table)[0]])
    assert (first["plate"], first["mjd"], first["fiber"]) == (266, 51602, rows_of(table)[0] + 1)
    assert str(first["class"]).strip() == "QSO"
    assert "legacysurvey.org/viewer?ra=" in str(first["legacy_survey"])
    assert "skyserver.sdss.org" in str(first["skyserver"])
    assert f"fiberid={first['fiber']}" in str(first["spectrum"])
    assert np.ma.getmaskarray(Table(table, masked=True)["interest"]).all()
    assert "compared with the 400 objects" in capsys.readouterr().out


def test_the_terminal_shows_the_first_of_them(catalogue, capsys):
    assert main(["anomalies", str(catalogue), "--false-alarm", "0.001"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["rank", "target_id", "redshift"]
    assert "poor fit" in lines[2] or "rare latents" in lines[2]
    assert "of 400 objects with a false-alarm probability of at most 0.001" in lines[-1]


def test_ratings_bring_what_a_person_likes_to_the_top_and_are_kept(catalogue, tmp_path):
    out, again = tmp_path / "odd.ecsv", tmp_path / "next.ecsv"
    assert main(["anomalies", str(catalogue), "--out", str(out), "--top", "12"]) == 0
    table = Table.read(out)
    for row in table:
        number = row["target_id"] - 39_000_000_000_000_000
        if number in (0, 1, 2, 6, 7, 8):  # this person likes rare latents
            row["interest"] = 5 if number >= 6 else 0
    table.write(out, overwrite=True)
    assert main(["anomalies", str(catalogue), "--rated", str(out), "--out", str(again), "--top", "8"]) == 0
    ranked = Table.read(again)
    assert set(rows_of(ranked)[:3]) <= set(range(6, 12))
    assert set(rows_of(ranked)[-3:]) == {0, 1, 2}
    kept = {int(row): rating for row, rating in zip(rows_of(ranked), ranked["interest"].tolist(), strict=True)}
    assert [kept[row] for row in (0, 1, 2, 6, 7, 8)] == [0, 0, 0, 5, 5, 5]
    assert all(rating is None for row, rating in kept.items() if row not in (0, 1, 2, 6, 7, 8))
    assert (np.diff(ranked["priority"]) <= 0).all()


def test_far_from_all_rated_objects_the_score_stays_as_it_is():
    latents = np.zeros((60, 2))
    latents[50:] = 40.0
    features = features_of(latents, np.zeros(60), np.zeros(60))
    predicted, priority = rerank(np.full(60, 3.0), features, np.array([0, 1]), np.array([0, 0]))
    assert (predicted == 0).all()
    np.testing.assert_allclose(priority[:50], 0.3)
    assert (priority[50:] > 2.9).all()


def test_the_page_is_one_file_that_loads_nothing(catalogue, tmp_path):
    out = tmp_path / "odd.html"
    assert main(["anomalies", str(catalogue), "--out", str(out), "--top", "5"]) == 0
    text = out.read_text(encoding="utf-8")
    assert "Content-Security-Policy" in text
    assert text.count("SDSS 0266-51602-") == 5
    assert "poor fit" in text
    assert "--data FILE.h5" in text
    assert "<link" not in text
    assert "src=" not in text


@pytest.mark.parametrize(
    ("interest", "message"),
    [
        (["7", "", "x"], "must be a whole number from 0 to 5; found row 1: '7', row 3: 'x'"),
        (["", "", ""], "no object is rated"),
        (["1", "", ""], "none of the 1 rated objects is in this catalogue"),
    ],
)
def test_unusable_ratings_are_refused(catalogue, tmp_path, capsys, interest, message):
    path = tmp_path / "rated.csv"
    path.write_text("target_id,interest\n" + "".join(f'{row},"{text}"\n' for row, text in enumerate(interest)))
    assert main(["anomalies", str(catalogue), "--rated", str(path)]) == 4
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("attributes", "command"),
    [
        ({}, "hpctrain encode RUN FILE.h5 --out"),
        (
            {"model_weights": "/runs/my run/1/model/model.safetensors", "source_files": ["a b.h5", "c.h5"]},
            "hpctrain encode '/runs/my run/1' 'a b.h5' --out {new} (and 1 more:",
        ),
        ({"bundle": "/models/bundle"}, "hpctrain infer /models/bundle FILE.h5 --out {new}"),
    ],
)
def test_an_older_catalogue_is_refused_with_the_command_that_makes_a_new_one(tmp_path, capsys, attributes, command):
    old = write_catalogue(tmp_path / "old.h5", version=1, **attributes)
    assert main(["anomalies", str(old)]) == 4
    message = capsys.readouterr().err
    assert "lacks LOCAL_CHI2, LATENT_DENSITY, ANOMALY_REASON, SNR; an older hpctrain" in message
    assert command.format(new=tmp_path / "old-new.h5") in message


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "odd.txt"], 2, "found '.txt'; the name must end with one of .fits, .csv, .ecsv, .html"),
        (["--out", "odd.csv", "--data", "s.h5"], 2, "--data: only a page shows spectra"),
        (["--out", "nowhere/odd.csv"], 2, "nowhere is no directory"),
        (["--rated", "rated.txt"], 4, "ratings are read from .fits, .csv, .ecsv"),
    ],
)
def test_a_wrong_command_line_says_what_to_do(catalogue, tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert main(["anomalies", str(catalogue), *arguments]) == code
    assert message in capsys.readouterr().err


def test_a_source_that_is_neither_catalogue_nor_run_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["anomalies", "no-such-run"]) == 4
    assert "no such catalogue, and no run of this name" in capsys.readouterr().err
