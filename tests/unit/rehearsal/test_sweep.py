"""What a learning rate range test suggests."""

from __future__ import annotations

import numpy as np
import pytest

from hpctrain.rehearsal.sweep import judged, smooth
from hpctrain.rehearsal.sweep_page import page, text, to_json, write_picture

RATES = np.logspace(-7, 0, 300)
LAST = "the sweep has reached its last learning rate"


def curve(lowest=1e-2, noise=0.02):
    """Return losses that fall from 3 to 1 until `lowest`, then rise."""
    x = np.log10(RATES / lowest)
    losses = np.where(x < 0, 1 + 2 / (1 + np.exp(-4 * (-x - 1))), 1.035 + 3 * x**2)
    return losses + noise * np.random.default_rng(1).normal(size=len(RATES))


def test_a_tenth_of_the_rate_of_the_lowest_loss_is_suggested():
    found = judged(RATES.tolist(), curve().tolist(), LAST)
    assert found.suggested == pytest.approx(1e-3, rel=0.5)
    assert found.steepest == pytest.approx(1e-3, rel=0.6)
    assert not found.notes


def test_one_bad_batch_changes_nothing():
    losses = curve()
    expected = judged(RATES.tolist(), losses.tolist(), LAST).suggested
    losses[150] = 1e5
    losses[220] = -1e5
    assert judged(RATES.tolist(), losses.tolist(), LAST).suggested == pytest.approx(expected, rel=0.2)


def test_a_flat_curve_suggests_nothing_and_says_so():
    losses = 3 + 0.1 * np.random.default_rng(2).normal(size=300)
    found = judged(RATES.tolist(), losses.tolist(), LAST)
    assert found.suggested is None
    assert "does not fall" in found.notes[0]
    assert "No learning rate" in "\n".join(text(found, 1e-3))


def test_a_curve_that_still_falls_at_its_end_asks_for_a_larger_sweep():
    found = judged(RATES.tolist(), curve(lowest=100.0).tolist(), LAST)
    assert any("--to" in note for note in found.notes)


def test_smoothing_moves_no_minimum_and_keeps_a_constant():
    assert smooth(np.full(50, 2.0), 3.0) == pytest.approx(np.full(50, 2.0))
    assert np.argmin(smooth((np.arange(101) - 60.0) ** 2, 2.0)) == 60


def test_text_fits_a_terminal_and_the_page_cites_the_method():
    found = judged(RATES.tolist(), curve().tolist(), LAST)
    assert max(map(len, text(found, 1e-3)[:-2])) <= 80
    assert "Smith 2017" in page(found, "<name>", "profile.yaml", 1e-3)
    assert "<name>" not in page(found, "<name>", "profile.yaml", 1e-3)
    assert to_json(found, 1e-3)["profile_learning_rate"] == 1e-3


def test_the_picture_is_a_png(tmp_path):
    path = tmp_path / "lr-find.png"
    write_picture(judged(RATES.tolist(), curve().tolist(), LAST), path, "a sweep")
    assert path.read_bytes().startswith(b"\x89PNG")
