"""Clusters of objects by k-means, Gaussian mixtures or HDBSCAN, with their stability under resampling."""
