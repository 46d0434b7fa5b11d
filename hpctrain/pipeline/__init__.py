"""Pipelines: from new data to a registered model in stages, each of which is done once for the same inputs.

No torch here: a login node submits a pipeline and reads its state.
"""
