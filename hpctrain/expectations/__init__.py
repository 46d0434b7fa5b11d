"""What data must be like, proposed from good data, and new data checked against it."""
