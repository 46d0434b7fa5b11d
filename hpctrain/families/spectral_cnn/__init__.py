"""Convolutional networks that learn labels of spectra: classes, parameters, redshifts."""
