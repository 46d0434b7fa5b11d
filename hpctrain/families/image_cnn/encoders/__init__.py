"""Networks for weights that others have trained, with the names and the arithmetic of timm, without its classifiers."""
