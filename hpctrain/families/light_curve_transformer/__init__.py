"""The model family ``light_curve_transformer``: labels of light curves by attention or by a recurrent network."""
