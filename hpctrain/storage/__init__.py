"""Inspects files of spectra: how fast they can be read, and what is wrong in them. Writes them in a better layout."""
