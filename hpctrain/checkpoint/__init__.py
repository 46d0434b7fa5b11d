"""In: tensors and one integer, the step. Out: directories that are whole or not there."""
