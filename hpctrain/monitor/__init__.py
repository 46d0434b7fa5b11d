"""Read drivers, /sys and /proc: numbers about the machine, and the pace at which the run may go.

A value that cannot be read is absent, never 0.
"""
