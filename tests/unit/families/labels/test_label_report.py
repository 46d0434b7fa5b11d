"""Cards, sentence and panels of predicted labels in the report, from columns as a finished run leaves them."""

from __future__ import annotations

import numpy as np
import pytest

from hpctrain.families.labels.scores import calibration_error, confusion, nmad, pit_flatness
from hpctrain.families.labels.show import PANELS, cards, fit_sentence


@pytest.fixture
def results():
    rng = np.random.default_rng(1)
    true = rng.choice(np.array([b"QSO", b"<b>", b"STAR"]), 200)
    predicted = np.where(rng.random(200) < 0.9, true, b"QSO")
    true[0] = b""
    z = rng.uniform(0, 3, 200)
    z[1] = np.nan
    residual = 0.01 * rng.normal(size=200)
    columns = {
        "kind_TRUE": true,
        "kind_PRED": predicted,
        "kind_LOG_LOSS": np.full(200, 0.1),
        "z_TRUE": z,
        "z_PRED": z + residual * (1 + z),
        "z_RESIDUAL": np.where(np.isfinite(z), residual, np.nan),
        "z_OUTLIER": (np.abs(residual) > 0.02).astype(np.float32),
        "z_PIT": rng.random(200),
    }
    return {"predictions.h5": columns}


def panel(title: str):
    return next(each for each in PANELS if each.title == title)


def test_cards_and_sentence_name_each_label_with_its_score(results):
    first, second = cards({"loss": 1.0}, "200 held-out spectra", results)
    assert first.label == "kind: right"
    assert second.label == "z: scatter (NMAD)"
    sentence = fit_sentence({"loss": 1.0}, "200 held-out spectra", results)
    assert sentence.startswith("On 200 held-out spectra: kind is right for 9")
    assert "the scatter (NMAD) of z is 0.0" in sentence


def test_before_the_end_of_a_run_the_loss_is_shown():
    (card,) = cards({"loss": 0.5}, "held out", {})
    assert card.value == "0.5"
    assert fit_sentence({"loss": 0.5}, "held-out spectra", {}) == "The loss on held-out spectra is 0.5."


def test_the_confusion_counts_every_labelled_sample_once_and_escapes_names(results):
    columns = results["predictions.h5"]
    known = columns["kind_TRUE"] != b""
    names, counts = confusion(columns["kind_PRED"][known], columns["kind_TRUE"][known])
    assert counts.sum() == 199
    assert counts[np.diag_indices(len(names))].sum() == np.sum((columns["kind_PRED"] == columns["kind_TRUE"])[known])
    html = panel("Classes").draw(results)
    assert "&lt;b&gt;" in html
    assert "<td>199" not in html  # rows are of true classes


def test_values_are_drawn_with_residuals_and_their_calibration(results):
    html = panel("Predicted and true values").draw(results)
    assert html.count("<svg") == 6  # three figures, each for a wide screen and for a phone
    assert "residuals divided by 1 + z" in html
    share = 100 * np.mean(results["predictions.h5"]["z_OUTLIER"][np.isfinite(results["predictions.h5"]["z_TRUE"])])
    assert f"outliers {share:.1f} %" in html


def test_predictions_without_labels_draw_no_panel():
    columns = {"kind_PRED": np.array([b"QSO"] * 5), "z_PRED": np.arange(5.0)}
    for title in ("Classes", "Predicted and true values"):
        assert panel(title).draw({"predictions.h5": columns}) == ""


def test_scores_have_their_textbook_values():
    draws = np.random.default_rng(2).normal(3.0, 2.0, 100_000)
    assert nmad(draws) == pytest.approx(2.0, rel=0.02)
    assert pit_flatness(np.linspace(0, 1, 1001)) < 0.01
    assert pit_flatness(np.full(50, 0.5)) == pytest.approx(0.5)
    probability = np.full(1000, 0.8)
    assert calibration_error(probability, np.arange(1000) % 10 < 8) == pytest.approx(0.0, abs=0.02)
    assert calibration_error(probability, np.zeros(1000, dtype=bool)) == pytest.approx(0.8)
