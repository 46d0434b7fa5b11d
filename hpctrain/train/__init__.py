"""Train the profile of a run directory, and write checkpoints, metrics and a model into the same directory."""
