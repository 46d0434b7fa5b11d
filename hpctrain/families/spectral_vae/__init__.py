"""A variational autoencoder of spectra, and the catalogue of latent vectors that it makes."""
