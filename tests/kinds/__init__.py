"""Tiny files of every kind of data, for tests of all kinds."""
