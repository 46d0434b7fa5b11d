"""What a trace of the profiler says about some steps of a run: a summary as numbers, and in words.

The trainer records the trace (``train.profile_steps``) and writes it, as a Chrome trace in gzip, with its summary into
the folder ``traces`` of the run directory.
"""
