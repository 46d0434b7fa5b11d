"""Turn a run directory in any state into one HTML file that needs only a browser and no network."""
