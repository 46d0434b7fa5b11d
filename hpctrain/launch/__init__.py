"""From a checked profile to a job in the queue or processes on this machine, and back to where a run stands.

In comes a :class:`~hpctrain.profile.schema.Profile`; out go a run directory and a job. The trainer is never imported:
it is a command that runs on the run directory.
"""
