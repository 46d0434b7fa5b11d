"""In: drivers, /sys and /proc. Out: numbers about the machine, and at what pace the run may go.

What cannot be read is absent, never 0.
"""
