"""Figures described as plain values, and their drawings.

What computes a figure writes a :class:`~hpctrain.drawing.described.figure.Figure` into a JSON file; what shows it draws
it without knowing what its numbers mean.
"""
