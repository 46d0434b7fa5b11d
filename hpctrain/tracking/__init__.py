"""What MLflow and W&B show of runs, studies and pipelines: how they belong together, their data, gates and versions."""
