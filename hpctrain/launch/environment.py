"""The environment that ranks start in: the user's own, without the variables of a surrounding job."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from hpctrain.launch.plan import checkout_root

_INHERITED_FROM_A_JOB = re.compile(
    r"^(SLURM_(?!(CONF|JWT|CLUSTERS)$)|SLURMD_|SRUN_|PMI|(LOCAL_)?RANK$|(LOCAL_)?WORLD_SIZE$|MASTER_|HPCTRAIN_DEADLINE$)"
)
"""Variables of a surrounding job or launcher, which would misplace the new job's ranks."""


def clean_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment to submit a job with: the user's, without the variables of a surrounding job."""
    return {name: value for name, value in environment.items() if not _INHERITED_FROM_A_JOB.match(name)}


def environment_of_ranks() -> dict[str, str]:
    """Return the environment of ranks on this machine, in which they run the same code as this process."""
    environment = clean_environment()
    if root := checkout_root():
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), environment.get("PYTHONPATH")]))
    return environment


def enter_clean_environment() -> None:
    """Give this process the environment of ranks on this machine."""
    environment = environment_of_ranks()
    os.environ.clear()
    os.environ.update(environment)
