"""Kinds of data: each says what one sample is, and brings it to the device clean."""
