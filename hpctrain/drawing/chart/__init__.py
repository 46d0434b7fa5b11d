"""Charts of any numbers, drawn in a terminal or as a picture."""
