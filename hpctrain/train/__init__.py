"""In: a run directory with its profile. Out: checkpoints, metrics and a model in the same directory."""
