"""The networks of the whole runs in these tests: real in every part, and small enough to take a second."""

SMALL_NETWORK = {
    "latent_size": 3,
    "encoder_hidden": [16],
    "decoder_hidden": [16],
    "start_simulated": 0,
    "dropout": 0.1,
}
"""The default network: it starts from a PCA of the training spectra."""

SMALL_CONVOLUTIONS = {
    "latent_size": 3,
    "encoder_channels": [4, 8],
    "encoder_kernels": [5, 5],
    "encoder_hidden": [16],
    "decoder_hidden": [16],
    "dropout": 0.1,
}
"""The network of a profile that hpctrain read before it had other encoders than convolutions."""
