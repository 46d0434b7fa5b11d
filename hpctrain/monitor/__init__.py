"""In: drivers and /proc. Out: numbers about the machine; what cannot be read is absent, never 0."""
