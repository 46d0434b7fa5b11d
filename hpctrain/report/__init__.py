"""In: a run directory, whole or half done. Out: one HTML file that needs no network and no program but a browser."""
