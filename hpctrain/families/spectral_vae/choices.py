"""Words of the ``model`` section of spectral_vae. This module imports nothing."""

CONVOLUTIONAL, LEAST_SQUARES = "convolutional", "least_squares"
"""Values of ``model.encoder``."""

PCA, RANDOM = "pca", "random"
"""Values of ``model.start``."""
