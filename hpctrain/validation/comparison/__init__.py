"""Comparison of finished runs on the same held-out objects: differences with intervals, tests, power, one page."""
