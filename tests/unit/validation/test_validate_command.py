"""``hpctrain validate`` prints a table and writes a file, and tells a user what is wrong in one line."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from judged_runs import NUM, finished_run, predictions, write_results

import hpctrain
from hpctrain.cli import main
from hpctrain.errors import DataError
from hpctrain.validation.judged import read_judged

SPECTRA = {"family": "spectral_vae", "section": {"family": "spectral_vae"}}


def latents(num=50):
    """Return the columns of a catalogue of held-out spectra, as older versions wrote them: without rows."""
    rng = np.random.default_rng(2)
    return {
        "target_id": np.arange(num),
        "RECON_MSE": rng.chisquare(200, num) / 200,
        "NUM_PIXELS": np.full(num, 200),
        "STATUS": np.zeros(num, dtype=np.uint8),
        "ANOMALY_SCORE": rng.normal(size=num) + 3 * (np.arange(num) % 10 == 0),
        "class": np.where(np.arange(num) % 10 == 0, b"QSO", b"STAR"),
    }


def test_the_table_has_every_metric_with_its_interval_and_the_file_the_same(tmp_path, capsys):
    run = finished_run(tmp_path)
    assert main(["validate", str(run.path)]) == 0
    text = capsys.readouterr().out
    assert f"made/{run.run_id} (trees): {NUM} held-out objects, intervals of 95 %" in text
    for line in ("accuracy", "scatter (NMAD)", "outliers above 0.15", "true, predicted as  GALAXY  STAR"):
        assert line in text
    assert text.rstrip().endswith("results/validation.json")
    found = json.loads((run.results / "validation.json").read_text())
    nmad = found["tasks"]["redshift"]["metrics"]["nmad"]
    assert nmad["low"] < nmad["value"] < nmad["high"]
    assert (nmad["n"], nmad["better"], nmad["references"][0][:7]) == (NUM, "lower", "Brammer")
    assert found["tasks"]["spectype"]["confusion"]["true_by_predicted"] == [[24, 6], [0, 30]]


def test_json_is_all_that_is_printed_and_is_the_same_each_time(tmp_path, capsys):
    run, out = finished_run(tmp_path), tmp_path / "v.json"
    printed = []
    for _ in range(2):
        assert main(["validate", str(run.path), "--json", "--out", str(out)]) == 0
        printed.append(json.loads(capsys.readouterr().out))
        assert printed[-1] == json.loads(out.read_text())
        printed[-1].pop("made_at")
    assert printed[0] == printed[1]
    assert hpctrain.Run(run.path).validation is None
    assert main(["validate", str(run.path)]) == 0
    assert hpctrain.Run(run.path).validation["tasks"] == printed[0]["tasks"]


def test_a_column_of_the_data_is_read_at_the_rows_of_the_held_out_objects(tmp_path):
    judged = read_judged(finished_run(tmp_path))
    np.testing.assert_allclose(judged.column("g"), np.linspace(18, 22, 2 * NUM)[::2], rtol=1e-6)
    part = judged.take(np.arange(NUM) < 30)
    assert part.task("redshift").score("rmse") == judged.task("redshift").score("rmse", np.arange(NUM) < 30)
    np.testing.assert_array_equal(part.column("g"), judged.column("g")[:30])
    with pytest.raises(DataError, match=r"airmass: is not in the file; there is .*unusual"):
        judged.column("airmass")
    with pytest.raises(DataError, match="predicts no mass; it predicts spectype, redshift"):
        judged.task("mass")


def change_data(run):
    with h5py.File(run.path.parents[2] / "data.h5", "a") as file:
        file["target_id"][...] = file["target_id"][...][::-1]


def test_data_that_have_changed_since_the_training_are_refused_only_where_they_are_needed(tmp_path, capsys):
    run = finished_run(tmp_path)
    change_data(run)
    assert main(["validate", str(run.path)]) == 0
    with pytest.raises(DataError, match="data files have changed since the training: they hold other objects"):
        read_judged(run).column("g")


def remove(*names):
    def change(run):
        for name in names:
            (run.path / name).unlink()

    return change


def no_labels(run):
    columns = predictions()
    write_results(run, {**columns, "redshift_TRUE": np.full(NUM, np.nan), "spectype_TRUE": np.full(NUM, b"", "S8")})


def cut_off(run):
    path = run.results / "predictions.h5"
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove("model/model.json"), "has no model yet; 'hpctrain status"),
        (remove("model/model.safetensors", "results/predictions.h5"), "is not finished; 'hpctrain status"),
        (remove("results/predictions.h5"), "it held out no samples, or none of them could be used"),
        (lambda run: (run.model / "model.safetensors").write_bytes(b"other"), "was changed after the run had finished"),
        (no_labels, "none of the held-out samples has a label. Check the columns of model.labels"),
        (cut_off, "cannot be read"),
        (lambda run: write_results(run, {"row": np.arange(3)}), "lacks target_id"),
        (lambda run: write_results(run, {"target_id": np.arange(3), "row": np.arange(2)}), "is damaged"),
    ],
)
def test_what_cannot_be_judged_is_said_in_one_line(tmp_path, capsys, change, words):
    run = finished_run(tmp_path)
    change(run)
    assert main(["validate", str(run.path)]) == 4
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not said.out
    assert not (run.results / "validation.json").exists()


def test_a_run_that_does_not_exist_and_a_file_that_cannot_be_written_are_said_in_one_line(tmp_path, capsys):
    assert main(["validate", "nothing", "--runs-dir", str(tmp_path)]) == 2
    run = finished_run(tmp_path)
    assert main(["validate", str(run.path), "--out", str(tmp_path / "no" / "v.json")]) == 2
    assert "is no directory; make it first" in capsys.readouterr().err


def test_reconstructions_and_anomalies_of_spectra_are_judged(tmp_path, capsys):
    more = "validate: {draws: 100, anomalies: {column: class, positive: [QSO]}}\n"
    run = finished_run(tmp_path, more=more, **SPECTRA)
    (run.results / "predictions.h5").unlink()
    write_results(run, latents(), "latents.h5")
    bins = {"edges_aa": np.array([4000.0, 5000, 6000]), "count": [30, 0], "pull": [3.0, 0], "chi2": [33.0, 0]}
    sums = {f"{frame}_{name}": values for frame in ("rest", "observed") for name, values in bins.items()}
    np.savez(run.results / "residuals.npz", num_spectra=50, **sums)
    assert main(["validate", str(run.path)]) == 0
    found = hpctrain.Run(run.path).validation
    assert found["tasks"]["reconstruction"]["by_wavelength"]["rest"]["mean_pull"] == [0.1, None]
    assert [figure["key"] for figure in found["figures"]][:1] == ["reconstruction.rest"]
    text = capsys.readouterr().out
    for line in ("reconstruction (spectra)", "median reduced χ²", "anomalies (anomalies)", "recall among first 10"):
        assert line in text
    with pytest.raises(DataError, match=r"older version of hpctrain wrote its results.*so g is not known"):
        read_judged(run).column("g")


def test_an_unusual_class_that_no_object_has_is_an_error(tmp_path, capsys):
    more = "validate: {anomalies: {column: class, positive: [COMET]}}\n"
    run = finished_run(tmp_path, more=more, **SPECTRA)
    (run.results / "predictions.h5").unlink()
    write_results(run, latents(), "latents.h5")
    assert main(["validate", str(run.path)]) == 4
    assert "none of the 50 held-out samples has COMET in class" in capsys.readouterr().err


def test_clusters_are_judged_with_their_stability(tmp_path, capsys):
    columns = predictions()
    cluster = np.arange(NUM) % 2
    table = {"target_id": columns["target_id"], "row": columns["row"], "CLUSTER": cluster, "DISTANCE": np.ones(NUM)}
    run = finished_run(tmp_path, {**table, "LABEL": columns["spectype_PRED"]}, family="clusters", section={})
    trials = np.array([[2, 0, 0, 0.5, 0.91, 0.02, 1]])
    kept = {"trials": trials, "chosen": 0, "stability": np.array([0.9, 0.8]), "num_resamples": 5}
    np.savez(run.results / "clusters.npz", **kept)
    assert main(["validate", str(run.path)]) == 0
    text = capsys.readouterr().out
    assert "adjusted Rand index" in text
    assert "stability: adjusted Rand index 0.91 ± 0.02 between 5 resamples" in text
