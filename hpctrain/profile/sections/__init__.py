"""The sections of a profile; kinds of data and model families add their own (``section.py`` in their folders)."""
