"""Whether stated uncertainties are true: calibration, conformal sets, outliers of the training set, abstention."""
