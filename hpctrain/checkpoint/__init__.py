"""Save tensors and one integer, the step, in directories that are either whole or absent."""
