"""Drawings of the latent space."""

import numpy as np
import pytest

from hpctrain.report.latents import principal_components


@pytest.mark.parametrize("size", [1, 2, 10])
def test_principal_components_are_the_widest_directions(size):
    vectors = np.random.default_rng(0).normal(size=(500, size)) * np.geomspace(9, 0.1, size)
    components, shares = principal_components(vectors)
    assert components.shape == (500, 2)
    assert shares[0] >= shares[1] >= 0
    assert abs(np.corrcoef(components[:, 0], vectors[:, 0])[0, 1]) > 0.98
