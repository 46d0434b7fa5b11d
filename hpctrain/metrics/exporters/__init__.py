"""Exporters: TensorBoard, Prometheus, the progress line, MLflow and W&B follow the records of a run."""
