"""Kinds of tasks: what a model predicts and what is true, with the metrics that its field uses. No torch here."""
