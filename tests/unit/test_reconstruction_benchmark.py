"""Table and figure of benchmarks/reconstruction.py, from records of held-out spectra."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.reconstruction import PCA, bootstrap, table
from benchmarks.reconstruction_figure import draw


def records(latent_size: int, **means: float) -> list[dict]:
    """Return records of 60 objects whose reduced chi-squares spread around the mean of each method."""
    spread = np.random.default_rng(0).uniform(-0.5, 0.5, 60)
    return [
        {
            "latent_size": latent_size,
            "target_id": number,
            "chi2": {name: 1 + (mean - 1) * (1 + part) for name, mean in means.items()},
        }
        for number, part in enumerate(spread)
    ]


def test_excess_is_the_change_of_what_the_mean_has_above_the_noise():
    theirs = 1 + np.random.default_rng(1).uniform(0, 2, 50)
    ours = 1 + 0.75 * (theirs - 1)
    *_, excess = bootstrap(ours, theirs, np.arange(50))
    assert excess == pytest.approx((-0.25, -0.25))


def test_all_spectra_of_an_object_are_drawn_together():
    objects = np.repeat(np.arange(30), 4)
    theirs = np.full(120, 2.0)
    ours = 1 + np.repeat(np.random.default_rng(2).uniform(0, 2, 30), 4)
    alone = bootstrap(ours[::4], theirs[::4], objects[::4])
    np.testing.assert_allclose(bootstrap(ours, theirs, objects), alone)


def test_the_table_has_a_line_for_each_method_with_its_gain_over_pca():
    text = table(records(4, **{PCA: 2.0, "one pass, seed 0": 1.6}), "latent size 4")
    (line,) = (line for line in text.splitlines() if line.startswith("one pass, seed 0"))
    assert "100%" in line
    assert "-40% (-40% .. -40%)" in line


def test_the_figure_has_the_methods_that_were_run_at_each_latent_size(tmp_path: Path):
    rows = records(2, **{PCA: 2.0, "one pass, seed 0": 1.5, "one pass, seed 1": 1.6, "spender": 4.0})
    rows += records(8, **{PCA: 1.3, "one pass, seed 0": 1.1, "one pass, seed 1": 1.2})
    draw(rows, tmp_path / "new" / "figure.svg")
    text = (tmp_path / "new" / "figure.svg").read_text()
    for label in ("noise", PCA, "spectral_vae, one pass", "spender", "latent size"):
        assert f">{label}</text>" in text
    assert "one refinement" not in text


def test_the_figure_leaves_out_a_peer_that_was_not_run(tmp_path: Path):
    draw(records(2, **{PCA: 2.0, "one pass, seed 0": 1.5}), tmp_path / "figure.svg")
    assert "spender" not in (tmp_path / "figure.svg").read_text()
