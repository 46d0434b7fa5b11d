"""Numbers a scientist asks for: goodness of fit, anomaly scores, classical baselines, and catalogues of latents."""
