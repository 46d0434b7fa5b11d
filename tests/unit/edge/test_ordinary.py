"""What the anomaly scores of a bundle compare with: spectra that the network was not fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from hpctrain.edge.see import fit_ordinary
from hpctrain.errors import DataError


def seen(number: int, seed: int) -> tuple[np.ndarray, ...]:
    """Latents, chi-square, signal to noise ratio and redshift of ordinary spectra; the last one was rejected."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(number + 1, 3)).astype("f4")
    latents[-1] = np.nan
    values = np.exp(rng.normal(0, 0.1, number + 1)), rng.uniform(2, 9, number + 1), rng.uniform(0, 2, number + 1)
    return latents, *values


@pytest.mark.parametrize(("number", "origin"), [(40, "40 held-out spectra"), (31, "100 training spectra")])
def test_scores_compare_with_held_out_spectra_if_there_are_enough(number: int, origin: str) -> None:
    ordinary = fit_ordinary(seen(100, 1), seen(number, 2), 3)
    assert ordinary.origin == origin
    assert ordinary.reference.num_objects == int(origin.split()[0])


def test_too_few_training_spectra_are_an_error() -> None:
    with pytest.raises(DataError, match="only 31 training spectra have latents"):
        fit_ordinary(seen(31, 1), seen(100, 2), 3)
