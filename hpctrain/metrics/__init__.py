"""Records of a run: ``metrics.jsonl``, and the exporters that show the same records elsewhere."""
