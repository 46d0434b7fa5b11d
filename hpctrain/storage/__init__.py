"""Inspect files of spectra: measure how fast they can be read, find bad values, and rewrite them in a better layout."""
