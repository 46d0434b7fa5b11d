"""Residual networks that learn labels of images: classes, votes, sizes, whether a galaxy is a lens."""
