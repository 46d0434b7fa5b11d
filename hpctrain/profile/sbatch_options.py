"""The sbatch options that a profile or a site file cannot set, and the keys to use instead."""

from __future__ import annotations

OWN_KEYS = {
    "job-name": "name",
    "partition": "launch.partition",
    "account": "launch.account",
    "qos": "launch.qos",
    "constraint": "launch.constraint",
    "reservation": "launch.reservation",
    "exclude": "launch.exclude",
    "nodes": "launch.nodes",
    "time": "launch.time_limit",
    "signal": "launch.signal_lead_s",
    "requeue": "launch.requeue",
    "no-requeue": "launch.requeue",
    "mem": "launch.memory_gib_per_node",
    "mem-per-cpu": "launch.memory_gib_per_node",
    "mem-per-gpu": "launch.memory_gib_per_node",
    "ntasks": "launch.ranks_per_node",
    "ntasks-per-node": "launch.ranks_per_node",
    "ntasks-per-gpu": "launch.ranks_per_node",
    "cpus-per-task": "launch.cpus_per_rank",
    "cpus-per-gpu": "launch.cpus_per_rank",
    "gpus": "launch.gpus_per_node",
    "gpus-per-node": "launch.gpus_per_node",
    "gpus-per-task": "launch.gpus_per_node",
    "gres": "launch.gpus_per_node",
}
"""Options that have their own key; if both were given, one would silently override the other."""

OURS_ALONE = {
    "output": "logs go to the run directory",
    "error": "logs go to the run directory",
    "open-mode": "logs of earlier attempts must be kept",
    "array": "all its tasks would train in one run directory; use hpc-submit --array",
    "wrap": "the job runs the trainer",
    "wait": "use hpc-submit --wait",
    "parsable": "the launcher reads sbatch's answer",
    "test-only": "use hpc-submit --dry-run",
    "export": "the ranks need the launcher's variables",
    "export-file": "the ranks need the launcher's variables",
    "chdir": "paths are relative to the folder in which hpc-submit is called",
    "help": "sbatch would print its help and submit nothing",
    "usage": "sbatch would print its help and submit nothing",
    "version": "sbatch would print its version and submit nothing",
}
"""Options that only the launcher can set, and why."""

_SITE_DEFAULTS = ("account", "qos", "constraint", "reservation", "exclude", "mem", "mem-per-cpu", "mem-per-gpu")
"""Options for which a site file may have a default, which the key of the profile overrides."""


def refusal(option: str, is_site: bool = False) -> str | None:
    """Return the reason why an option is reserved and what to use instead; None for an option that may be set.

    Parameters
    ----------
    option : str
        Long name without the dashes.
    is_site : bool
        Whether a site file has the option; a site file may hold defaults for accounts and the like.
    """
    if is_site and option in _SITE_DEFAULTS:
        return None
    if option in OWN_KEYS:
        return f"set {OWN_KEYS[option]} instead; the launcher writes this option itself"
    if option in OURS_ALONE:
        return f"cannot be set here: {OURS_ALONE[option]}"
    # sbatch accepts any unambiguous beginning of a long option.
    full = next((name for name in (*OURS_ALONE, *OWN_KEYS) if name.startswith(option)), None)
    return None if full is None else f"write the whole name of the option; sbatch could read this as '{full}'"
