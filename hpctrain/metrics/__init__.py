"""In: what the trainer measured. Out: ``metrics.jsonl``, the truth, and everybody who is told about it."""
