"""Where a model is worse than elsewhere: bins of columns, the sky, other populations, and what training never saw."""
