"""Scientific results: goodness of fit, anomaly scores, classical baselines, and catalogues of latent vectors."""
