"""Rows of a table as a kind of data: one object per row, a number per column."""
