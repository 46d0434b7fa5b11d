"""Redshifts and classes of spectra: chi-square of PCA templates at all redshifts of a logarithmic grid, by FFT."""
