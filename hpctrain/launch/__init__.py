"""Turn a checked profile into a job in the queue or processes on this machine, and report the status of runs.

The input is a :class:`~hpctrain.profile.schema.Profile`; the output is a run directory and a job. This package never
imports the trainer: the trainer is a command that runs on the run directory.
"""
