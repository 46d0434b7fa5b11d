"""Leaks between the sides of the split, found before a training: one module per leak."""
